"""The Fréchet distance against closed forms, other tools' figures and answers of 50 digits; its errors cover."""

import functools

import numpy as np
import pytest

from score_sde.evaluation import frechet as module
from score_sde.evaluation.frechet import Moments, extrapolated, frechet, frechet_distance
from tests.evaluation import goldens


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


@pytest.mark.parametrize("rows", [(5, 40), (40, 5), (7, 7), (12, 40), (11, 13)])
def test_frechet_distance_of_few_rows(rows):
    """From the rows' products, as from the covariances, which are singular of fewer rows than the 12 dimensions."""
    random = np.random.default_rng(7)
    a, b = (random.normal(i, 1 + i, (n, 12)) for i, n in enumerate(rows))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(Moments.of(a), Moments.of(b)), rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(a, Moments.of(b)), rel=1e-6)


SETS, METRICS = goldens.feature_sets(), goldens.metrics()


def truth(name: str) -> float:
    """The recorded figure of most digits."""
    found = METRICS["fid"][name]
    return float(found.get("exact_from_features", found.get("exact", found["pytorch_fid"])))


@pytest.mark.parametrize("name", METRICS["fid"])
def test_sets_of_features_to_rounding(name):
    """Of singular covariances nearer than other tools: from moments, and from features a hundred times."""
    a, b = SETS[name]
    moments = [Moments.of(x) for x in (a, b)]
    total = sum(np.trace(m.covariance) for m in moments)
    found, of_moments = (abs(frechet_distance(*x) - truth(name)) for x in ((a, b), moments))
    assert found <= 1e-12 * total
    assert of_moments <= 1e-8 * total
    if name in ("few64", "identical_few64", "pool2048", "rank6of32"):
        others = min(abs(METRICS["fid"][name][tool] - truth(name)) for tool in ("pytorch_fid", "torch_fidelity"))
        assert 100 * found < others and of_moments < others


@pytest.mark.parametrize("name", METRICS["gaussians"])
def test_moments_to_rounding(name):
    mean, covariance, other_mean, other_covariance = goldens.gaussians()[name]
    found = frechet_distance(Moments(2, mean, covariance), Moments(2, other_mean, other_covariance))
    total = np.trace(covariance) + np.trace(other_covariance)
    assert abs(found - float(METRICS["gaussians"][name]["exact"])) <= (1e-8 if name == "singular16" else 1e-11) * total


def test_of_real_features():
    with np.load(goldens.GOLDEN / "real64.npz") as real:
        assert frechet_distance(real["train"], real["test"]) == pytest.approx(real["fid64_pytorch_fid"], rel=1e-6)


def test_moments_of_parts_are_merged():
    """As those of the whole, although the mean is a million standard deviations from 0."""
    x = np.random.default_rng(0).standard_normal((90, 5)) @ np.diag([1, 2, 3, 4, 5.0]) + 1e6
    parts = [Moments.of(x[i:j]) for i, j in ((0, 2), (2, 41), (41, 90))]
    found, whole = functools.reduce(Moments.merged, parts), Moments.of(x)
    assert found.n == 90
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x, rowvar=False), rtol=1e-8, atol=1e-8)


def test_what_is_not_known():
    a, b = np.ones((1, 3)), np.eye(3)
    assert np.isnan(frechet(a, b)).all() and np.isnan(frechet_distance(b, Moments.of(a)))
    assert np.isnan(frechet_distance(np.full((4, 3), np.nan), b))
    known = frechet(Moments.of(b), Moments.of(b + 1))
    assert known.value == pytest.approx(3) and np.isnan(known.error)
    with pytest.raises(ValueError, match="4999 rows against 3 are too few to extrapolate from: give 5000 or more"):
        extrapolated(np.zeros((4999, 2)), b)


SPECTRUM = np.exp(-np.arange(8) / 2)


def drawn(random: np.random.Generator, count: int, shift: float, scale: float) -> np.ndarray:
    return (random.standard_normal((count, 8)) * scale + shift) * SPECTRUM


@pytest.mark.parametrize(("shift", "scale", "least"), [(0.0, 1.0, 0.9), (0.3, 1.0, 0.89), (0.0, 1.4, 0.89)])
def test_the_error_covers_the_expectation_of_that_many_rows(shift, scale, least):
    """Of 200 pairs 95 % but for chance (3 standard deviations); of one law the error is too large, as all are there."""
    random = np.random.default_rng(3)
    found = [frechet(drawn(random, 60, shift, scale), drawn(random, 90, 0, 1)) for _ in range(200)]
    values, errors = np.transpose(found)
    assert np.mean(abs(values - values.mean()) < 1.96 * errors) > least
    assert 0.85 < np.mean(errors) / np.std(values, ddof=1) < (1.6 if scale == 1 and shift == 0 else 1.3)


def test_the_error_of_fewer_rows_than_dimensions_covers():
    random, widths = np.random.default_rng(4), np.exp(-np.arange(32) / 8)
    other = Moments.of(random.standard_normal((500, 32)) * widths)
    found = [frechet((1.4 * random.standard_normal((20, 32)) + 0.3) * widths, other) for _ in range(200)]
    values, errors = np.transpose(found)
    assert np.mean(abs(values - values.mean()) < 1.96 * errors) > 0.89


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.2)])
def test_the_extrapolated_distance_covers_that_of_the_laws(shift, scale):
    """Of 12 pairs of 5,000 rows at least 10, where the plain distance of the same law is too large in all."""
    exact = ((shift * SPECTRUM) ** 2).sum() + (((scale - 1) * SPECTRUM) ** 2).sum()
    random = np.random.default_rng(5)
    pairs = [(drawn(random, 5000, shift, scale), drawn(random, 5000, 0, 1)) for _ in range(12)]
    values, errors = np.transpose([extrapolated(a, b) for a, b in pairs])
    assert np.sum(abs(values - exact) < 1.96 * errors) >= 10
    plain = np.array([frechet_distance(a, b) for a, b in pairs])
    assert abs(values.mean() - exact) < 4 * np.std(values, ddof=1) / np.sqrt(len(values))
    if exact == 0:
        assert (plain > 0).all() and plain.mean() > 5 * abs(values.mean())


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e5, 1e7, 1e12])
def test_factors_of_many_rows_are_exact_however_singular(spread):
    """Columns whose scales differ by so much: by Cholesky where that is exact, else by Householder."""
    x = np.random.default_rng(0).normal(size=(300, 8)) @ np.diag(np.geomspace(1, 1 / spread, 8))
    q, r = module._orthogonal(x)
    np.testing.assert_allclose(q.T @ q, np.eye(8), atol=1e-14)
    np.testing.assert_allclose(q @ r, x, atol=1e-14 * np.abs(x).max())
    np.testing.assert_array_equal(r, np.triu(r))
