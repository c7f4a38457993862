"""Power spectra of fields: how much of their variance lies at which wavenumber."""

from typing import NamedTuple

import numpy as np


class Spectrum(NamedTuple):
    """Wavenumbers, in waves along the shortest side; mean power and its standard error over fields: [K] each."""

    wavenumber: np.ndarray
    mean: np.ndarray
    error: np.ndarray


def spectrum(x: np.ndarray) -> Spectrum:
    """Of fields [N, ..., C] on a grid of any rank, N of 2 or more: isotropic, the mean over channels.

    P(k) is the mean of |F x|^2 over the waves whose number of cycles is within 1/2 of k = 0, 1, ... up to half of the
    shortest side, F the unitary Fourier transform: white noise of variance v has P = v. Sides are taken to be as long
    as they have points. Fields that are not periodic leak power to high wavenumbers, the data's as the samples'.
    """
    waves = np.fft.fftn(x.astype(np.float64), axes=range(1, x.ndim - 1), norm="ortho")
    power = (np.abs(waves) ** 2).mean(-1).reshape(len(x), -1)
    sides = x.shape[1:-1]
    ring, numbers = rings(sides).reshape(-1), np.arange(min(sides) // 2 + 1)
    bands = np.stack([power[:, ring == k].mean(1) for k in numbers], axis=1)
    return Spectrum(numbers, bands.mean(0), bands.std(0, ddof=1) / np.sqrt(len(x)))


def rings(sides: tuple[int, ...]) -> np.ndarray:
    """The wavenumber of every wave of a Fourier transform of these sides, to the next integer: [*sides]."""
    cycles = np.meshgrid(*(min(sides) * np.fft.fftfreq(side) for side in sides), indexing="ij")
    return np.rint(np.sqrt(sum(axis**2 for axis in cycles))).astype(int)
