"""Grain: what a median filter takes away from a picture: noise that a sampler has left, and hardly any strokes."""

import numpy as np

QUANTILE = 0.995
"""Of real pictures: one with more grain than that counts as grainy."""


def grain(images: np.ndarray) -> np.ndarray:
    """Root mean square over pixels of picture minus its 3x3 median, images [N, H, W, C] -> [N], in their units."""
    from scipy.ndimage import median_filter

    x = images.astype(np.float64)
    smooth = median_filter(x, size=(1, 3, 3, 1), mode="nearest")
    return np.sqrt(((x - smooth) ** 2).mean((1, 2, 3)))


def grainy(samples: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The share of samples [N, H, W, C] with more grain than 99.5 % of real pictures have, and its standard error.

    The error is that of the share by a uniform prior, so none of few is not taken for none at all.
    """
    found = grain(samples) > np.quantile(grain(real), QUANTILE)
    mean = (found.sum() + 1) / (len(found) + 2)
    return float(found.mean()), float(np.sqrt(mean * (1 - mean) / (len(found) + 3)))
