"""The two-sample figures against closed forms, scipy, and what is known of the digits."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmarks.neighbours import to_bytes, waves
from score_sde.data.sources import digits
from score_sde.evaluation.frechet import frechet_distance
from score_sde.evaluation.neighbours import (
    Neighbours,
    copying_ratio,
    nearest,
    nearest_neighbour_accuracy,
    neighbour_figures,
    reading,
    squared_distances,
)
from score_sde.evaluation.two_sample import to_vectors, two_sample


def test_squared_distances():
    random = np.random.default_rng(6)
    a, b = random.standard_normal((4, 3)), random.standard_normal((5, 3))
    expected = ((a[:, None] - b[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-12)
    assert (squared_distances(a * 1e6, a * 1e6) >= 0).all()


def test_nearest():
    a, b = np.array([[0.0], [1.0], [10.0]]), np.array([[2.5], [9.0]])
    np.testing.assert_allclose(nearest(a, b), [2.5, 1.5, 1.0])


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


def test_accuracies_by_hand():
    """The line above: of a's three neighbours two are a's, of b's none; ties count by the share of the nearest."""
    a, b = np.array([[0.0], [1.0], [10.0]]), np.array([[2.5], [9.0], [12.0]])
    assert Neighbours.of(a, b).accuracies() == (pytest.approx(2 / 3), 0)
    assert Neighbours.of(b, a).accuracies() == (0, pytest.approx(2 / 3))
    same = np.zeros((5, 2))
    assert Neighbours.of(same, same).accuracies() == (pytest.approx(4 / 9), pytest.approx(4 / 9))
    assert np.isnan(Neighbours.of(same[:1], same).accuracies()).all()


def brute_force(a: np.ndarray, b: np.ndarray, k: int) -> tuple[float, float]:
    """Precision and recall by loops."""

    def share(points, centres):
        inside = []
        for p in points:
            radii = [sorted(np.linalg.norm(c - other) for other in centres)[k] for c in centres]
            inside.append(any(np.linalg.norm(p - c) <= r for c, r in zip(centres, radii)))
        return float(np.mean(inside))

    return share(a, b), share(b, a)


def test_precision_and_recall():
    """By brute force; 0 of distant sets, 1 of a set against itself; of a narrow set in a wide one the former alone."""
    random = np.random.default_rng(9)
    a, b = random.standard_normal((25, 3)), 1.3 * random.standard_normal((25, 3)) + 0.5
    for k in (1, 3, 5):
        assert Neighbours.of(a, b).precision_and_recall(k) == brute_force(a, b, k)
    assert Neighbours.of(a, b + 100).precision_and_recall() == (0, 0)
    assert Neighbours.of(a, a).precision_and_recall() == (1, 1)
    precision, recall = Neighbours.of(0.1 * a, b[::-1]).precision_and_recall()
    assert precision == 1 and recall < 0.2
    assert np.isnan(Neighbours.of(a[:3], b).precision_and_recall()).all()


def noisy_waves(count: int, seed: int, noise: float = 0.0) -> np.ndarray:
    images = waves(count, seed) + noise * np.random.default_rng(seed).normal(size=(count, 32, 32, 3))
    return to_bytes(images)


def test_noise_is_told_apart_though_the_mean_says_one_half():
    """32x32x3: noise is nearer to pictures than to noise, and so are pictures; held-out ones are near 0.5 on both."""
    data, held_out = waves(200, 0), waves(200, 1)
    noise = np.random.default_rng(0).integers(0, 256, held_out.shape).astype(np.uint8)
    for samples in (noise, noisy_waves(200, 2, 100.0)):
        found = two_sample(samples, data, held_out[:0])
        assert (found.accuracy_on_samples, found.accuracy_on_data) == (0, 1)
        assert found.nearest_neighbour_accuracy == 0.5 and found.precision == 0
        assert "0.500 (0.000 on samples, 1.000 on data: told apart" in str(found) and "as noise is" in str(found)
    flat = lambda x: x.reshape(len(x), -1).astype(float)
    fresh = neighbour_figures(flat(held_out), flat(data))
    assert abs(fresh["accuracy_on_samples"] - 0.5) < 0.1 and abs(fresh["accuracy_on_data"] - 0.5) < 0.1
    assert reading(fresh["accuracy_on_samples"], fresh["accuracy_on_data"], 200) == "not told apart from the data"


def test_readings_of_the_digits():
    """Noise, copies, blur and one repeated picture at 8x8x1, by what the mean and both accuracies say."""
    train, held_out = digits()[:2]
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, held_out.shape).astype(np.uint8)
    blurred = to_bytes(gaussian_filter(held_out.astype(float), (0, 1, 1, 0)))
    repeated = np.repeat(held_out[:1], 297, 0)
    for samples in (noise, blurred, repeated):
        found = two_sample(samples, train, held_out)
        assert found.accuracy_on_samples == 1 and found.accuracy_on_data > 0.95
        assert found.reading == "told apart from the data"
    copies = two_sample(train[:297], train, held_out)
    assert (copies.accuracy_on_samples, copies.accuracy_on_data, copies.copying_ratio, copies.copies) == (0, 0, 0, 297)
    assert "copies" in copies.reading and "297 of 297 samples are training pictures" in str(copies)


SMALL = {
    "one sample": (np.zeros((1, 4, 4, 1), np.uint8), 5),
    "one training picture": (np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1), 1),
    "one of each": (np.zeros((1, 4, 4, 1), np.uint8), 1),
    "constant samples": (np.full((6, 4, 4, 1), 7, np.uint8), 5),
    "no sample": (np.zeros((0, 4, 4, 1), np.uint8), 5),
    "one number each": (np.zeros((4, 1), np.uint8), 5),
    "no number is finite": (np.full((4, 3), np.nan, np.float32), 5),
    "huge numbers": (np.full((4, 3), 3e38, np.float32), 5),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", SMALL)
def test_no_set_is_too_small(case):
    """Figures that need more are None, and said to be unknown."""
    samples, count = SMALL[case]
    data = np.arange(count * samples[0:1].size if len(samples) else count * 16) % 251
    data = data.astype(samples.dtype).reshape(count, *samples.shape[1:])
    for train, held_out in ((data, data[:0]), (data, data + 1), (np.full_like(data, 3), np.full_like(data, 3))):
        found = two_sample(samples, train, held_out)
        figures = [found.frechet_distance, found.accuracy_on_samples, found.precision, found.copying_ratio]
        assert all(figure is None or np.isfinite(figure) for figure in figures)
        if len(samples) - found.non_finite < 2 or count < 2:
            assert found.frechet_distance is None and "not known" in str(found)
        json.loads(json.dumps(found.__dict__, allow_nan=False))


def test_training_pictures_among_the_held_out_are_counted_and_the_ratio_left_out():
    train, held_out = digits()[:2]
    mixed = np.concatenate([held_out, train[5:8]])
    found = two_sample(held_out[:100], train, mixed)
    assert found.copies_held_out == 3 and found.copying_ratio is None
    assert "3 of 300 held-out pictures are training pictures" in str(found) and "over" not in found.reading


def test_samples_that_are_not_finite_are_counted_and_left_out():
    random = np.random.default_rng(1)
    x, y, z = (random.normal(size=(40, 6)) for _ in range(3))
    whole = two_sample(x, y, z)
    broken = np.concatenate([x, x[:2]])
    broken[40, 2], broken[41, 3] = np.nan, np.inf
    found = two_sample(broken, y, z)
    assert (found.num_samples, found.non_finite) == (42, 2) and "2 of 42 samples are not finite" in str(found)
    assert found.frechet_distance == whole.frechet_distance and found.precision == whole.precision
    finite = np.arange(42) < 40
    assert two_sample(np.nan_to_num(broken), y, z, finite).copying_ratio == whole.copying_ratio


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
