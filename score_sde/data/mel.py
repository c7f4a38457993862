"""Frames of a waveform: how loud it is in bands of the mel scale, by numpy alone."""

from dataclasses import dataclass

import numpy as np

from score_sde.errors import require

FLOOR = 1e-5
"""The least magnitude that is told from silence; a sine of amplitude 1 has 1."""


def mel(frequency: np.ndarray | float) -> np.ndarray:
    """2595 log10(1 + f / 700), f in Hz (O'Shaughnessy 1987), the scale of HTK's filter banks."""
    return 2595 * np.log10(1 + np.asarray(frequency, float) / 700)


def frequency(mels: np.ndarray | float) -> np.ndarray:
    """The inverse of `mel`, in Hz."""
    return 700 * (10 ** (np.asarray(mels, float) / 2595) - 1)


@dataclass(frozen=True)
class Mel:
    """A waveform x [..., L] in about [-1, 1] -> frames float32 [..., L // hop, bands] in about [0, 1].

    Frame j is of n_fft samples about (j + 1/2) hop, x being reflected at its ends:
        1 + log10(max(F m, FLOOR)) / 5,  m_k = 2 |sum_n w_n x_n exp(-2 pi i k n / n_fft)| / sum_n w_n,
    w a periodic Hann window in the middle, F triangles of height 1 over bands + 2 points evenly between mel(low) and
    mel(high). rate in samples per second; low, high in Hz, high 0 for half the rate. UsageError for what makes no
    filter bank.
    """

    rate: int
    hop: int
    n_fft: int
    window: int
    bands: int
    low: float = 20.0
    high: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.n_fft % 2 == 0 and self.window <= self.n_fft,
            f"n_fft={self.n_fft} with a window of {self.window}: give an even number, not below the window",
        )
        require(
            0 <= self.low < self.highest <= self.rate / 2,
            f"bands from {self.low} to {self.highest} Hz do not lie between 0 and half the rate, {self.rate / 2} Hz",
        )

    @property
    def highest(self) -> float:
        """Where the highest band ends, in Hz."""
        return self.high or self.rate / 2

    @property
    def filters(self) -> np.ndarray:
        """F as a matrix float32 [n_fft / 2 + 1, bands]."""
        nodes = frequency(np.linspace(mel(self.low), mel(self.highest), self.bands + 2))
        f = np.arange(self.n_fft // 2 + 1)[:, None] * self.rate / self.n_fft
        below, peak, above = nodes[:-2], nodes[1:-1], nodes[2:]
        return np.clip(np.minimum((f - below) / (peak - below), (above - f) / (above - peak)), 0, None).astype(
            "float32"
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        half, length = self.n_fft // 2, x.shape[-1]
        require(
            length >= self.hop and length > half,
            f"{length} samples are too few for frames of n_fft={self.n_fft}, every {self.hop}: give longer waveforms",
        )
        hann = np.zeros(self.n_fft, np.float32)
        first = (self.n_fft - self.window) // 2
        hann[first : first + self.window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        padded = np.pad(x.astype(np.float32), [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
        parts = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft, axis=-1)
        chosen = parts[..., self.hop // 2 :: self.hop, :][..., : length // self.hop, :]
        magnitude = np.abs(np.fft.rfft(chosen * hann)).astype(np.float32) * (2 / hann.sum())
        return (1 + np.log10(np.maximum(magnitude @ self.filters, FLOOR)) / 5).astype(np.float32)
