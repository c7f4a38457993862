"""The progressive rate-distortion curve of a score: what its bound pays until a noise level, and what is known then."""

import math

import numpy as np

from score_sde.data.kinds import Bytes, Kind
from score_sde.reporting import figures
from score_sde.reporting.measure import NoiseLevels
from score_sde.reporting.page import Section

NAMED = (0.1, 0.5, 1.0, 2.0)
"""Rates in bits per dimension that the caption names."""


def distortion(found: NoiseLevels) -> tuple[np.ndarray, np.ndarray]:
    """The denoiser's squared error per dimension in the network's range, and its standard error, [K] each.

    (sigma / alpha)^2 times the loss, as x_0 - E[x_0 | x_t] is (sigma / alpha) (sigma s + z).
    """
    scale = np.exp(-found.log_snr)
    return scale * found.loss[0], scale * found.loss[1]


def rate_distortion(found: NoiseLevels, kind: Kind) -> Section:
    """Bits per dimension against the root mean squared error, in bytes or in deviations of the data."""
    assert found.rate is not None
    bits, bits_error = (part / math.log(2) for part in found.rate)
    squares, error = distortion(found)
    scale = float(kind.units[1][0]) if isinstance(kind, Bytes) else 1.0
    unit = "in bytes" if isinstance(kind, Bytes) else "in the data's deviations"
    value = scale * np.sqrt(squares)
    error = scale**2 * error / (2 * value)
    use = np.isfinite(bits) & np.isfinite(value)
    title = "Rate and distortion"
    if not use.any():
        return Section(title, "Not measured: at no noise level is the score finite on any image.")
    named = [b for b in NAMED if b <= bits[use].max()]
    told = ", ".join(f"{np.interp(b, bits[use], value[use]):.3g} at {b:g}" for b in named)
    caption = (
        "An image is sent from noise downwards, each level given the one above it: the bits per dimension that the"
        " bound pays until a noise level, and the root mean squared error of the denoiser there, which is what the"
        f" receiver knows of the image, {unit}. At {bits[use].max():.2f} bits, where sampling ends, the error is"
        f" {value[use][np.argmax(bits[use])]:.3g}" + (f"; it is {told} bits" if told else "") + ". The mean over"
        f" {found.images} images, with standard errors; of Gaussian data this is Shannon's curve."
    )
    picture = figures.rate_distortion((bits[use], bits_error[use]), (value[use], error[use]), unit)
    return Section(title, caption, "rate_distortion", figures.png(picture))
