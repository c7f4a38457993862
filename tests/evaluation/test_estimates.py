"""Standard errors against simulated estimates of known variance."""

import numpy as np
import pytest

from score_sde.evaluation.estimates import degrees_of_freedom, interval, over_images, per_image

RNG = np.random.default_rng(0)


def simulated(repetitions: int, n: int, k: int, m: int) -> np.ndarray:
    """Images of spread 3, dequantisations of spread 1, probes of spread 2, about 10: [repetitions, N, K, M]."""
    images, dequantised = RNG.normal(size=(repetitions, n, 1, 1)), RNG.normal(size=(repetitions, n, k, 1))
    return 10 + 3 * images + dequantised + 2 * RNG.normal(size=(repetitions, n, k, m))


@pytest.mark.parametrize(("k", "m", "variance"), [(4, 1, 5 / 4), (2, 3, (1 + 4 / 3) / 2), (1, 4, 4 / 4)])
def test_the_error_of_an_image(k, m, variance):
    """Both kinds of noise, or with one dequantisation that of probes alone."""
    means, errors = zip(*(per_image(values) for values in simulated(4000, 1, k, m)))
    assert np.mean(np.square(errors)) == pytest.approx(variance, rel=0.1)
    assert np.mean(means) == pytest.approx(10, abs=0.3)


def test_one_number_has_no_error():
    assert np.isnan(per_image(np.ones((3, 1, 1)))[1]).all() and degrees_of_freedom(1, 1) == 0
    found = over_images(np.arange(3.0), np.full(3, np.nan), 0)
    assert np.isnan([found.standard_error, *found.interval]).all()
    assert found.standard_error_images == pytest.approx(1 / np.sqrt(3))
    assert np.isnan(over_images(np.ones(1), np.ones(1), 2).standard_error_images)


@pytest.mark.parametrize(("n", "k"), [(1, 3), (20, 2)])
def test_intervals_cover(n, k):
    """On the same images, of whom the mean is known, and over images, where it is 10."""
    same, others = 0, 0
    images = 3 * RNG.normal(size=(n, 1, 1))
    for _ in range(2000):
        values = 10 + images + RNG.normal(size=(n, k, 1)) + 2 * RNG.normal(size=(n, k, 1))
        low, high = over_images(*per_image(values), degrees_of_freedom(k, 1)).interval
        same += low < 10 + images.mean() < high
    for values in simulated(2000, 20, k, 1):
        low, high = over_images(*per_image(values), degrees_of_freedom(k, 1)).interval_images
        others += low < 10 < high
    assert 0.94 < same / 2000 < 0.98 and 0.935 < others / 2000 < 0.965


def test_students_interval():
    low, high = interval(1.0, 2.0, 4)
    assert (low + high) / 2 == pytest.approx(1) and (high - low) / 4 == pytest.approx(2.776, abs=1e-3)
    assert interval(0.0, 1.0, np.inf)[1] == pytest.approx(1.960, abs=1e-3)
    assert interval(3.0, 0.0, np.inf) == (3.0, 3.0)
