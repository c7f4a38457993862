"""Means with their standard errors and intervals, over random estimates of one image and over images."""

from typing import NamedTuple

import numpy as np


class Mean(NamedTuple):
    """A mean over images, with the error of its estimates and the error from which images they are.

    The former is what other dequantisations and probes would change on the same images, the latter, which contains it,
    what other images of the same kind would. Both intervals hold 95 %. NaN where nothing tells the spread.
    """

    mean: float
    standard_error: float
    interval: tuple[float, float]
    standard_error_images: float
    interval_images: tuple[float, float]


def per_image(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means [N] of values [N, K, M] and their standard errors [N], of K dequantisations with M probes each.

    K > 1: from the K means over probes, s / sqrt(K), which holds both kinds of noise, as they are independent. K = 1:
    from the M probes, the error given this one dequantisation. K = M = 1: NaN.
    """
    groups = values.mean(axis=2) if values.shape[1] > 1 else values[:, 0]
    return groups.mean(axis=1), _standard_error(groups)


def _standard_error(groups: np.ndarray) -> np.ndarray:
    """Of the mean over the last axis."""
    count = groups.shape[-1]
    return groups.std(axis=-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(groups.shape[:-1], np.nan)


def degrees_of_freedom(dequantizations: int, probes: int) -> int:
    """Those of per_image's standard errors; 0 where there are none."""
    return (dequantizations if dequantizations > 1 else probes) - 1


def over_images(means: np.ndarray, standard_errors: np.ndarray, degrees: int) -> Mean:
    """The mean over images of their means [N], whose standard errors [N] have so many degrees of freedom each.

    standard_error^2 = sum_b se_b^2 / N^2, with Welch and Satterthwaite's (sum_b se_b^2)^2 / sum_b (se_b^4 / degrees)
    degrees of freedom, which errs on the side of wide intervals; over images s / sqrt(N), with N - 1. NaN of none.
    """
    if not len(means):
        return Mean(np.nan, np.nan, (np.nan, np.nan), np.nan, (np.nan, np.nan))
    mean, variances = float(means.mean()), standard_errors**2
    own, spread = float(np.sqrt(variances.sum()) / len(means)), float(_standard_error(means))
    total = (variances**2).sum()
    freedom = degrees * variances.sum() ** 2 / total if total > 0 else np.inf
    return Mean(mean, own, interval(mean, own, freedom), spread, interval(mean, spread, len(means) - 1))


def interval(mean: float, standard_error: float, degrees: float, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of that level, NaN where there are no degrees of freedom."""
    from scipy.special import stdtrit  # a sixth of all that a training imports, which has no use for it

    half = standard_error * float(stdtrit(degrees, (1 + level) / 2)) if degrees > 0 else float("nan")
    return mean - half, mean + half
