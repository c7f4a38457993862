"""Pictures of signals, as curves, and of volumes, slice by slice."""

import math

import numpy as np

from score_sde.storage.scatter import COLOURS, PAPER

HEIGHT, LEAST, MOST = 72, 96, 288
"""Pixels of a curve's picture: its height, and between which numbers its width is."""


def of_rank(x: np.ndarray, rank: int) -> np.ndarray:
    """Examples [n, ...] of so many axes of space as they are looked at: pictures are themselves."""
    if rank == 1:
        return curves(x if x.ndim == 3 else x[..., None])
    return slices(x if x.ndim == 5 else x[..., None]) if rank == 3 else x


def curves(x: np.ndarray, height: int = HEIGHT) -> np.ndarray:
    """Signals [n, L, C] as pictures uint8 [n, height, width, 3], one colour a channel, all on one scale.

    The scale is from the least to the largest finite number of all, with a margin. Of signals longer than a picture is
    wide each column shows from the least to the largest of its numbers; what is not finite is left out.
    """
    count, _, channels = x.shape
    finite = x[np.isfinite(x)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    scale = (height - 1) / (high - low + 2 * margin)
    rows = (high + margin - np.asarray(x, np.float64)) * scale
    lower, upper = _columns(rows)
    canvas = np.full((count, height, lower.shape[1], 3), PAPER)
    pixels = np.arange(height)[None, :, None]
    for channel in reversed(range(channels)):
        top, bottom = lower[:, None, :, channel], upper[:, None, :, channel]
        with np.errstate(invalid="ignore"):
            covered = (pixels >= np.floor(top)) & (pixels <= np.ceil(bottom))
        canvas[covered] = COLOURS[channel % len(COLOURS)]
    return np.round(canvas).astype(np.uint8)


def _columns(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest row of every column of pixels [n, width, C], of rows [n, L, C]; columns touch."""
    length = rows.shape[1]
    if length < LEAST:
        times = np.linspace(0, length - 1, math.ceil(LEAST / length) * length)
        left = np.minimum(times.astype(int), max(length - 2, 0))
        right = np.minimum(left + 1, length - 1)
        share = (times - left)[None, :, None]
        rows = (1 - share) * rows[:, left] + share * rows[:, right]
    starts = np.unique(np.linspace(0, rows.shape[1], min(rows.shape[1], MOST), endpoint=False).astype(int))
    least, largest = (reduce.reduceat(rows, starts, axis=1) for reduce in (np.minimum, np.maximum))
    before, after = (np.concatenate([part[:, :1], part[:, :-1]], axis=1) for part in (least, largest))
    return np.fmin(least, after), np.fmax(largest, before)


def slices(x: np.ndarray) -> np.ndarray:
    """Volumes [n, D, H, W, C] as pictures [n, H, D W, C]: their slices from left to right."""
    n, depth, height, width, channels = x.shape
    return x.transpose(0, 2, 1, 3, 4).reshape(n, height, depth * width, channels)
