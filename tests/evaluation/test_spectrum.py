"""Power spectra of fields of known spectrum."""

import numpy as np
import pytest

from benchmarks.field import fields
from benchmarks.field import spectrum as law
from score_sde.evaluation.spectrum import spectrum
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
    ring = np.rint(np.hypot(*np.meshgrid(*(16 * np.fft.fftfreq(16),) * 2))) == 3
    assert np.isclose(found.mean[3] * ring.sum(), (x[0] ** 2).sum())  # Parseval


def test_the_field_of_the_benchmark():
    found = spectrum(fields(4000, 0)[..., None])
    k = 16 * np.fft.fftfreq(16)
    ring = np.rint(np.hypot(k[:, None], k[None])).astype(int)
    expected = np.array([law()[ring == n].mean() for n in range(9)])
    assert np.abs((found.mean - expected) / found.error).max() < 4


def test_ratio():
    one, other = (spectrum(fields(2000, seed)[..., None]) for seed in (0, 1))
    value, error = ratio(one, other)
    assert np.abs((value - 1) / error).max() < 4 and error.max() < 0.1
    np.testing.assert_allclose(ratio(one, one)[0], 1)
