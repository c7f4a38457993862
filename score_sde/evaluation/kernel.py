"""The kernel inception distance: the squared maximum mean discrepancy under a polynomial kernel, unbiased, in float64.

k(x, y) = (x^T y / D + 1)^3, MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j),
below 0 now and then where both laws are the same. Source: Bińkowski et al. 2018, demystifying MMD GANs.
"""

import math
from typing import NamedTuple

import numpy as np

from score_sde.evaluation.blocks import blocks
from score_sde.evaluation.frechet import Estimate, Features


class Polynomial(NamedTuple):
    """(scale x^T y + offset)^degree; scale: 1 / D where it is None."""

    degree: int = 3
    offset: float = 1.0
    scale: float | None = None

    def __call__(self, x: Features, y: Features) -> np.ndarray:
        """k(x_i, y_j) [N, M]."""
        scale = 1 / x.shape[1] if self.scale is None else self.scale
        return (scale * (x @ y.T) + self.offset) ** self.degree


CUBIC = Polynomial()


def kernel_distance(a: Features, b: Features, kernel: Polynomial = CUBIC) -> Estimate:
    """Of all rows [N, D] and [M, D], and its jackknife error: what other rows of the same laws would change.

    NaN of fewer than two rows, the error of fewer than three.
    """
    x, y = (np.asarray(rows, np.float64) for rows in (a, b))
    n, m = len(x), len(y)
    if min(n, m) < 2:
        return Estimate(math.nan)
    within = [_others(rows, kernel) for rows in (x, y)]
    across, totals = np.zeros(n), np.zeros(m)
    for part in blocks(n, m):
        values = kernel(x[part], y)
        across[part] = values.sum(1)
        totals += values.sum(0)
    crossed = 2 * across.sum() / (n * m)
    of_x, of_y = (own.sum() / (len(own) * (len(own) - 1)) for own in within)
    if min(n, m) < 3:
        return Estimate(of_x + of_y - crossed)
    without_x = _left_out(within[0]) + of_y - 2 * (across.sum() - across) / ((n - 1) * m)
    without_y = _left_out(within[1]) + of_x - 2 * (totals.sum() - totals) / ((m - 1) * n)
    variance = sum((len(w) - 1) * float(np.var(w)) for w in (without_x, without_y))
    return Estimate(of_x + of_y - crossed, math.sqrt(variance))


def subset_distances(
    a: Features, b: Features, subsets: int = 100, size: int = 1000, seed: int = 2020, kernel: Polynomial = CUBIC
) -> np.ndarray:
    """The distances of random subsets [subsets], without replacement, of a and of b in turn: torch-fidelity's draws.

    Published figures are their mean and, behind +-, their standard deviation, which is no error of that mean. Subsets
    have as many rows as the smaller set, if it has fewer than `size`.
    """
    random, size = np.random.RandomState(seed), min(size, len(a), len(b))
    found = []
    for _ in range(subsets):
        x, y = (rows[random.choice(len(rows), size, replace=False)].astype(np.float64) for rows in (a, b))
        of_x, of_y = ((values.sum() - np.trace(values)) for values in (kernel(x, x), kernel(y, y)))
        found.append((of_x + of_y) / (size * (size - 1)) - 2 * kernel(x, y).mean())
    return np.asarray(found)


def _others(x: Features, kernel: Polynomial) -> np.ndarray:
    """Of each row the sum of k over the other rows [N]."""
    sums = np.zeros(len(x))
    for part in blocks(len(x), len(x)):
        sums[part] = kernel(x[part], x).sum(1)
    scale = 1 / x.shape[1] if kernel.scale is None else kernel.scale
    return sums - (scale * (x**2).sum(1) + kernel.offset) ** kernel.degree


def _left_out(own: np.ndarray) -> np.ndarray:
    """mean_{i != j} k(x_i, x_j) without each row in turn [N], of each row's sum over the others."""
    n = len(own)
    return (own.sum() - 2 * own) / ((n - 1) * (n - 2))
