"""Power spectra of fields of known spectrum."""

import numpy as np
import pytest

from benchmarks.field import covariance, fields, land, nats_per_dimension, of_spectrum
from benchmarks.field import spectrum as law
from score_sde.evaluation.spectrum import rings, spectrum
from score_sde.reporting.spectra import ratio


@pytest.mark.parametrize("sides", [(32,), (16, 24), (8, 8, 8)])
def test_white_noise_has_its_variance_everywhere(sides):
    x = 3 * np.random.default_rng(0).normal(size=(4000, *sides, 2))
    found = spectrum(x)
    assert len(found.wavenumber) == min(sides) // 2 + 1
    assert np.abs((found.mean - 9) / found.error).max() < 4
    assert np.abs(found.mean - 9).max() < 0.5


def test_a_wave_is_at_its_number():
    x = np.cos(2 * np.pi * 3 * np.arange(16) / 16)[None, :, None, None] * np.ones((2, 16, 16, 1))
    found = spectrum(x)
    assert found.mean.argmax() == 3 and found.mean[[0, 1, 2, 5, 6, 7, 8]].max() < 1e-12
    assert np.isclose(found.mean[3] * (rings((16, 16)) == 3).sum(), (x[0] ** 2).sum())  # Parseval


def test_the_field_of_the_benchmark():
    rows = of_spectrum(fields(4000, 0))
    assert all(abs(row["ratio"] - 1) < 4 * row["standard_error"] < 0.2 for row in rows) and len(rows) == 9


def test_what_is_there_of_the_field():
    """The marginal of all of it is the field's own law, and the covariance is that of its draws."""
    x = fields(6, 0)
    some = x.copy()
    some[:, land()] = np.nan
    assert land().mean() == 0.5
    np.testing.assert_allclose(covariance(4), np.cov(fields(200_000, 0, 4).reshape(-1, 16).T), atol=0.02)
    both = np.linalg.slogdet(2 * np.pi * covariance())[1] / 2
    assert np.isclose(both, 0.5 * np.log(2 * np.pi * law()).sum())
    assert np.isfinite(nats_per_dimension(some)).all()


def test_ratio():
    one, other = (spectrum(fields(2000, seed)[..., None]) for seed in (0, 1))
    value, error = ratio(one, other)
    assert np.abs((value - 1) / error).max() < 4 and error.max() < 0.1
    np.testing.assert_allclose(ratio(one, one)[0], 1)
