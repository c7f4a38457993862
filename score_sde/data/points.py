"""Point sets: rows of coordinates, then features; a point that is absent is a row of NaN. What is known of them.

Positions count up to a shift of the whole set, so its scale is taken around the centre of every set, one for all
coordinates, which a rotation mixes.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from score_sde.errors import require


@dataclasses.dataclass(frozen=True)
class PointSpec:
    """How many numbers of a point are coordinates, and how often sets of 1, 2, ... points occur in training.

    shares: of the training examples, one number for each count up to N. elements: the names that the features stand
    for, one feature each, in files that have them; a single one has no feature.
    """

    dimension: int
    shares: tuple[float, ...]
    elements: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "PointSpec":
        """The inverse of dataclasses.asdict, of what JSON keeps."""
        return cls(value["dimension"], tuple(value["shares"]), tuple(value["elements"]))

    @property
    def fixed(self) -> bool:
        """Whether all sets have as many points as there is room for."""
        return self.shares[-1] == 1

    def rows(self, counts: np.ndarray, width: int) -> np.ndarray:
        """Which numbers of sets of these many points [B] are there, bool [B, N, width]: of the first rows all."""
        there = np.arange(len(self.shares))[None] < np.asarray(counts)[:, None]
        return np.broadcast_to(there[..., None], (*there.shape, width))


def points_there(x: np.ndarray) -> np.ndarray:
    """Which points of sets [B, N, C] are there, bool [B, N]."""
    return np.asarray(~np.isnan(x).all(-1))


def described(
    train: Iterable[np.ndarray],
    held_out: Iterable[np.ndarray],
    dimension: int,
    given: tuple[tuple[float, ...], tuple[float, ...]] = ((), ()),
    elements: tuple[str, ...] = (),
) -> tuple[PointSpec, tuple[float, ...], tuple[float, ...]]:
    """What is known of point sets [n, N, C], read in chunks, with mean and std of each of the C numbers of a point.

    Of coordinates the mean is 0, as every set's own centre is taken off, and std the root mean square of what is left,
    over (n - 1) D dimensions each. given: mean and std where they are, () where not. Raises UsageError for numbers
    that are infinite, points of which only some numbers are NaN, sets without a point, and what is constant.
    """
    sums = _Sums(dimension)
    for x in train:
        sums.add(x)
    for x in held_out:
        _checked(x)
    mean, std = sums.statistics(given[1])
    found = PointSpec(dimension, tuple((sums.counts[1:] / sums.counts.sum()).tolist()), elements)
    return found, given[0] or mean, given[1] or std


class _Sums:
    """Over the points of sets, in float64."""

    def __init__(self, dimension: int) -> None:
        self.dimension, self.counts = dimension, np.zeros(0, int)
        self._shift: Any = None
        self._squares, self._degrees, self._number = 0.0, 0, 0
        self._first, self._second = np.zeros(0), np.zeros(0)

    def add(self, x: np.ndarray) -> None:
        there = _checked(x)
        x, counts = np.where(there[..., None], x, 0).astype(np.float64), there.sum(1)
        found = np.bincount(counts, minlength=x.shape[1] + 1)
        self.counts = found if not len(self.counts) else self.counts + found
        coordinates = x[..., : self.dimension]
        moved = (coordinates - (coordinates.sum(1) / counts[:, None])[:, None]) * there[..., None]
        self._squares, self._degrees = self._squares + (moved**2).sum(), self._degrees + int((counts - 1).sum())
        features = x[..., self.dimension :]
        if self._shift is None:
            self._shift = features[there][0]  # against cancellation
            self._first, self._second = np.zeros_like(self._shift), np.zeros_like(self._shift)
        moved = (features - self._shift) * there[..., None]
        self._number += int(there.sum())
        self._first, self._second = self._first + moved.sum((0, 1)), self._second + (moved**2).sum((0, 1))

    def statistics(self, given: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        scale = float(self._squares / max(1, self._degrees * self.dimension)) ** 0.5
        first = self._first / self._number
        std = np.sqrt(np.maximum(self._second / self._number - first**2, 0))
        constant = ["the coordinates around their centre"] * (not scale > 0)
        constant += [f"number {self.dimension + i} of a point" for i in np.flatnonzero(~(std > 0))]
        require(
            given or not constant,
            f"the data are constant in {', '.join(constant)} and cannot be standardised: leave it out, or give"
            " data.std",
        )
        return (
            (*(0.0,) * self.dimension, *(first + self._shift).tolist()),
            (*(scale,) * self.dimension, *std.tolist()),
        )


def _checked(x: np.ndarray) -> np.ndarray:
    """Which points are there, bool [n, N]."""
    missing, there = np.isnan(x), points_there(x)
    require(
        not np.isinf(x).any(),
        f"{int(np.isinf(x).sum())} numbers of the points are infinite: leave such examples out, or mend them",
    )
    parts = int((missing.any(-1) & there).sum())
    require(
        parts == 0,
        f"{parts} points have NaN among their numbers and are not all NaN, as a point that is absent is: give such"
        " points all their numbers, or make them NaN altogether",
    )
    empty = int((~there.any(1)).sum())
    require(empty == 0, f"{empty} examples have no point: leave them out")
    return there


def check_scales(mean: tuple[float, ...], std: tuple[float, ...], dimension: int) -> None:
    """UsageError for a mean or std of coordinates that would not stay what it is in a rotation."""
    require(
        not any(mean[:dimension]),
        f"data.mean={mean} moves coordinates, of which the centre of every set is taken off: give 0 for the first"
        f" {dimension}, or leave it empty",
    )
    require(
        len(set(std[:dimension])) < 2,
        f"data.std={std} scales coordinates differently, which a rotation mixes: give the first {dimension} one value",
    )


def invariants(x: np.ndarray, dimension: int) -> np.ndarray:
    """What of sets [B, N, C] neither rotation nor order changes, float32 [B, N (N - 1) / 2 + C - D].

    The distances of all pairs, the largest first and 0 for pairs of which a point is absent, and the sums of features.
    """
    there = points_there(x)
    x = np.where(there[..., None], x, 0).astype(np.float32)
    first, second = np.triu_indices(x.shape[1], 1)
    apart = x[:, first, :dimension] - x[:, second, :dimension]
    distances = np.linalg.norm(apart, axis=-1) * (there[:, first] & there[:, second])
    return np.concatenate([-np.sort(-distances, axis=1), x[..., dimension:].sum(1)], axis=1)
