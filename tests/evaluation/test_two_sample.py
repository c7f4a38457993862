"""The two-sample figures against closed forms, scipy, and what is known of the digits."""

import numpy as np
import pytest

from score_sde.data.sources import digits
from score_sde.evaluation.two_sample import (
    copying_ratio,
    frechet_distance,
    nearest_neighbour_accuracy,
    squared_distances,
    to_vectors,
    two_sample,
)


def exact(mean: np.ndarray, root: np.ndarray, n: int = 50, seed: int = 0) -> np.ndarray:
    """Vectors whose sample mean is `mean` and whose unbiased sample covariance is root root^T, to rounding."""
    z = np.random.default_rng(seed).standard_normal((n, len(mean)))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return mean + z @ root.T


def rotation(dimension: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((dimension, dimension)))[0]


def test_exact_is_exact():
    root = np.random.default_rng(2).standard_normal((3, 3))
    x = exact(np.arange(3.0), root)
    np.testing.assert_allclose(x.mean(0), np.arange(3.0), atol=1e-12)
    np.testing.assert_allclose(np.cov(x, rowvar=False), root @ root.T, atol=1e-12)


@pytest.mark.parametrize("turned", [False, True])
def test_frechet_distance_of_commuting_covariances(turned):
    """|m_1 - m_2|^2 + sum_i (s_1i - s_2i)^2, standard deviations of 0 included, in any basis."""
    s, r = np.array([1.0, 2.0, 0.5, 0.0]), np.array([3.0, 0.1, 0.5, 1.0])
    m = np.array([1.0, -2.0, 0.0, 0.5])
    q = rotation(4) if turned else np.eye(4)
    a, b = exact(np.zeros(4), q @ np.diag(s)), exact(q @ m, q @ np.diag(r), 80, 3)
    expected = (m**2).sum() + ((s - r) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)  # a root of rounding error where s is 0
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_against_scipy():
    """The formula with the matrix root of the product itself, of covariances that do not commute."""
    linalg = pytest.importorskip("scipy.linalg")
    random = np.random.default_rng(4)
    a = random.standard_normal((40, 5)) @ random.standard_normal((5, 5))
    b = random.standard_normal((60, 5)) @ random.standard_normal((5, 5)) + 1
    p, q = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(linalg.sqrtm(p @ q))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(p + q - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_is_invariant():
    """Under rotation and translation; 0 of a set to itself; scaling by c multiplies it by c^2."""
    random = np.random.default_rng(5)
    a, b = random.standard_normal((30, 6)), random.standard_normal((40, 6)) ** 3
    q, d = rotation(6), frechet_distance(a, b)
    assert frechet_distance(a @ q + 7, b @ q + 7) == pytest.approx(d, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * d, rel=1e-9)
    assert frechet_distance(b[::-1], b) == pytest.approx(0, abs=1e-9)


def test_squared_distances():
    random = np.random.default_rng(6)
    a, b = random.standard_normal((4, 3)), random.standard_normal((5, 3))
    expected = ((a[:, None] - b[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-12)
    assert (squared_distances(a * 1e6, a * 1e6) >= 0).all()


def test_nearest_neighbours_by_hand():
    """On a line: a at 0, 1, 10 and b at 2.5, 9, 12.

    Neighbours: 0 -> 1 right, 1 -> 0 right, 10 -> 9 wrong; 2.5 -> 1 wrong, 9 -> 10 wrong, 12 -> 10 wrong.
    """
    a, b = np.array([[0.0], [1.0], [10.0]]), np.array([[2.5], [9.0], [12.0]])
    assert nearest_neighbour_accuracy(a, b) == pytest.approx(2 / 6)
    assert nearest_neighbour_accuracy(b, a) == pytest.approx(2 / 6)
    assert nearest_neighbour_accuracy(np.concatenate([a, [[500.0]]]), b) == pytest.approx(2 / 6)


def test_nearest_neighbours_of_equal_and_of_distant_laws():
    random = np.random.default_rng(7)
    a, b = random.standard_normal((400, 3)), random.standard_normal((400, 3))
    assert nearest_neighbour_accuracy(a, b) == pytest.approx(0.5, abs=0.08)
    assert nearest_neighbour_accuracy(a, b + 100) == 1
    assert nearest_neighbour_accuracy(a[:4], b[:300] + 100) == 1
    assert nearest_neighbour_accuracy(a, a + 1e-9) == 0  # every copy has its original as nearest neighbour


def test_copying_ratio():
    random = np.random.default_rng(8)
    train, held_out, fresh = (random.standard_normal((n, 4)) for n in (500, 400, 400))
    assert copying_ratio(train[:100], train, held_out) == pytest.approx(0, abs=1e-6)
    assert copying_ratio(fresh, train, held_out) == pytest.approx(1, abs=0.1)
    assert copying_ratio(2 * fresh, train, held_out) > 1.5
    assert copying_ratio(np.array([[1.0], [2.0], [6.0]]), np.array([[0.0]]), np.array([[4.0]])) == pytest.approx(0.5)


def test_vectors_are_on_the_scale_of_minus_one_to_one():
    images = np.array([[[[0], [255]], [[51], [204]]]], np.uint8)
    np.testing.assert_allclose(to_vectors(images), [[-1, 1, -0.6, 0.6]], atol=1e-15)


def test_two_halves_of_the_digits():
    """Eight random halves: Fréchet distance 0.29 (0.05 from half to half), 1-NN accuracy about one half."""
    x = to_vectors(np.concatenate(digits()[:2]))
    orders = [np.random.RandomState(seed).permutation(len(x)) for seed in range(8)]
    halves = [(x[order[:898]], x[order[898:]]) for order in orders]
    assert np.mean([frechet_distance(a, b) for a, b in halves]) == pytest.approx(0.29, abs=0.04)
    assert np.mean([nearest_neighbour_accuracy(a, b) for a, b in halves]) == pytest.approx(0.5, abs=0.02)


def test_a_gaussian_fitted_to_the_digits_is_told_apart_by_neighbours_only():
    """Fréchet distance 0.07, nothing but the 1,797 draws' own fluctuation, though 1-NN accuracy is 0.87."""
    x = to_vectors(np.concatenate(digits()[:2]))
    random = np.random.default_rng(0)
    draws = random.multivariate_normal(x.mean(0), np.cov(x, rowvar=False), len(x), method="eigh")
    assert frechet_distance(draws, x) == pytest.approx(0.07, abs=0.015)
    assert nearest_neighbour_accuracy(draws, x) == pytest.approx(0.87, abs=0.02)


def test_the_figures_together():
    """Held-out digits are new, training digits are copies."""
    train, held_out = digits()[:2]
    fresh = two_sample(held_out[:148], train, held_out[148:])
    assert fresh.num_samples == 148
    assert fresh.frechet_distance == frechet_distance(to_vectors(held_out[:148]), to_vectors(train))
    assert fresh.nearest_neighbour_accuracy == pytest.approx(0.5, abs=0.1)
    assert fresh.copying_ratio == pytest.approx(1, abs=0.1)
    copies = two_sample(train[:148], train, held_out)
    assert copies.copying_ratio == pytest.approx(0, abs=1e-6)
    alone = two_sample(train[:148], train, held_out[:0])
    assert alone.copying_ratio is None
    assert "held-out" not in str(alone)
    assert f"{fresh.frechet_distance:.3f}" in str(fresh)
    assert f"held-out {fresh.copying_ratio:.3f}" in str(fresh)
