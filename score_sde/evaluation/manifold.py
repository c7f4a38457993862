"""Precision and recall, density and coverage: whether samples lie where data are, and data where samples are.

A set's manifold is the union of balls around its rows, each as large as the distance to its k-th nearest other row.
Precision: the share of samples in the data's manifold; recall: of data in the samples' (Kynkäänniemi et al. 2019).
Density: in how many of the data's balls a sample lies, over k; coverage: the share of data whose ball has a sample in
it (Naeem et al. 2020). Of one law precision and recall depend on the number of rows, density is 1 in the mean.
"""

import math
from typing import NamedTuple

import numpy as np

from score_sde.evaluation.blocks import blocks
from score_sde.evaluation.frechet import Estimate, Features
from score_sde.evaluation.neighbours import near_zero, squared_distances

GROUPS = 20
"""Of the jackknife: so many parts of a set are left out in turn."""


class Manifold(NamedTuple):
    """The four figures with their errors, what other rows of the same laws would change."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold(samples: Features, data: Features, k: int = 3) -> Manifold:
    """Of samples [N, D] against data [M, D]; NaN of k or fewer rows, and of what is not finite.

    Errors, of 40 (k + 1) rows or more, are the jackknife's, with every twentieth of the samples, then of the data left
    out in turn.
    """
    if min(len(samples), len(data)) <= k or not (np.isfinite(samples).all() and np.isfinite(data).all()):
        return Manifold(*[Estimate(math.nan)] * 4)
    x, y = near_zero(samples, data)
    groups = GROUPS if min(len(x), len(y)) >= 2 * GROUPS * (k + 1) else 0
    pairs = _Pairs(_radii(x, k, groups), _radii(y, k, groups), k)
    for part in blocks(len(x), len(y)):
        pairs.add(part, squared_distances(x[part], y))
    whole = pairs.figures(0, 0)
    if not groups:
        return Manifold(*map(Estimate, whole))
    without = [[pairs.figures(g, 0) for g in range(1, groups + 1)], [pairs.figures(0, g) for g in range(1, groups + 1)]]
    errors = np.sqrt((groups - 1) * np.var(without, axis=1).sum(0))
    return Manifold(*map(Estimate, whole, errors.tolist()))


def _out(g: int, groups: int, count: int) -> np.ndarray:
    """Which rows are in, where group g of 1, 2, ... is left out; of 0 all."""
    return np.ones(count, bool) if g == 0 else np.arange(count) % groups != g - 1


def _radii(x: Features, k: int, groups: int) -> np.ndarray:
    """Squared distances [groups + 1, N] to the k-th nearest other row, of all, and without each group."""
    found = np.empty((groups + 1, len(x)))
    for part in blocks(len(x), len(x)):
        squares = squared_distances(x[part], x)
        squares[np.arange(len(squares)), np.arange(len(x))[part]] = np.inf
        if not groups:
            found[0, part] = np.partition(squares, k - 1, axis=1)[:, k - 1]
            continue
        least = np.stack([np.partition(squares[:, g::groups], k - 1, axis=1)[:, :k] for g in range(groups)], axis=1)
        for g in range(groups + 1):
            left = least if g == 0 else np.delete(least, g - 1, axis=1)
            found[g, part] = np.partition(left.reshape(len(least), -1), k - 1, axis=1)[:, k - 1]
    return found


class _Pairs:
    """What the figures need of the distances between samples and data, which come a block of samples at a time.

    By group left out, of all first: of_data: whether a sample lies in a ball of the data; counts: in how many;
    of_samples: whether an example lies in a ball of the samples; nearest: the nearest sample's squared distance.
    """

    def __init__(self, of_x: np.ndarray, of_y: np.ndarray, k: int) -> None:
        self.of_x, self.of_y, self.k = of_x, of_y, k
        (self.groups, n), m = of_x.shape, of_y.shape[1]
        self.of_data, self.counts = np.zeros((self.groups, n), bool), np.zeros((self.groups, n))
        self.of_samples, self.nearest = np.zeros((self.groups, m), bool), np.full((self.groups, m), np.inf)

    def add(self, part: slice, squares: np.ndarray) -> None:
        """Squared distances of these samples to all data."""
        for g in range(self.groups):
            kept = np.flatnonzero(_out(g, self.groups - 1, squares.shape[1]))
            radii, own = self.of_y[g, kept], squares[:, kept] if g else squares
            self.of_data[g, part] = (own <= radii[None]).any(1)
            self.counts[g, part] = (own < radii[None]).sum(1)
            rows = _out(g, self.groups - 1, self.of_x.shape[1])[part]
            own, radii = squares[rows] if g else squares, self.of_x[g, part][rows]
            if len(own):
                self.of_samples[g] |= (own <= radii[:, None]).any(0)
                self.nearest[g] = np.minimum(self.nearest[g], own.min(0))

    def figures(self, x_out: int, y_out: int) -> tuple[float, float, float, float]:
        """Precision, recall, density, coverage without these groups of samples and of data."""
        x = _out(x_out, self.groups - 1, self.of_x.shape[1])
        y = _out(y_out, self.groups - 1, self.of_y.shape[1])
        return (
            float(self.of_data[y_out][x].mean()),
            float(self.of_samples[x_out][y].mean()),
            float(self.counts[y_out][x].mean() / self.k),
            float((self.nearest[x_out] < self.of_y[y_out])[y].mean()),
        )
