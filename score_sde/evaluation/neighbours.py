"""What nearest neighbours say of samples against data: leave-one-out accuracies, precision and recall, copies."""

import math
from typing import NamedTuple

import numpy as np

from score_sde.evaluation.blocks import blocks

Vectors = np.ndarray
"""One row per example, float64 [N, D]."""

SAME = 1e-12
"""Squared distances below this part of the squared lengths are rounding: the examples are the same."""


def flat(x: np.ndarray) -> Vectors:
    """Examples [N, ...] -> [N, D], the numbers as they are: distances of bytes are exact."""
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float64)


def squared_distances(a: Vectors, b: Vectors) -> np.ndarray:
    """Squared Euclidean distances [len(a), len(b)], 0 between examples that are the same."""
    lengths = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    squares = lengths - 2 * a @ b.T
    squares[squares < SAME * lengths] = 0
    return squares


CENTRED = 1000
"""Rows whose median is taken for the middle of a set."""


def near_zero(a: Vectors, b: Vectors) -> tuple[Vectors, Vectors]:
    """Both in float64, moved alike to b's middle, where squared distances lose least: equal ones stay equal.

    The middle is a median, which no outlier moves, and of integers an integer.
    """
    x, y = (np.asarray(rows, np.float64) for rows in (a, b))
    some = y[:CENTRED]
    middle = np.median(some, axis=0)
    middle = np.round(middle) if (some == np.round(some)).all() else middle
    return x - middle, y - middle


def nearest(a: Vectors, b: Vectors) -> np.ndarray:
    """The distance of each row of a [N, D] to the nearest of b [M, D], in float64."""
    x, y = near_zero(a, b)
    return np.concatenate([np.sqrt(squared_distances(x[part], y).min(1)) for part in blocks(len(x), len(y))])


class Neighbours(NamedTuple):
    """Squared distances [N, N] within a and within b, infinite from each example to itself, and from a to b.

    Every figure is a function of these alone: it does not change when all examples are moved, turned or scaled.
    """

    within_a: np.ndarray
    within_b: np.ndarray
    between: np.ndarray

    @classmethod
    def of(cls, a: Vectors, b: Vectors) -> "Neighbours":
        """The larger set is cut to the smaller one's size, so that chance is one half."""
        n = min(len(a), len(b))
        within_a, within_b = (squared_distances(x[:n], x[:n]) for x in (a, b))
        for squares in (within_a, within_b):
            np.fill_diagonal(squares, np.inf)
        return cls(within_a, within_b, squared_distances(a[:n], b[:n]))

    def accuracies(self) -> tuple[float, float]:
        """Of the leave-one-out 1-NN classifier of a against b, on a and on b; NaN of fewer than two each.

        Among several nearest neighbours each counts alike. Of one law both are 0.5 in the mean, of laws far apart 1.
        Where b is covered by points far from one another, as by noise in many dimensions, they are 0 and 1; where it
        is by points too close, such as blurred pictures, 1 and 0; where a are copies of b, 0 and 0.
        """
        return _accuracy(self.within_a, self.between), _accuracy(self.within_b, self.between.T)

    def precision_and_recall(self, k: int = 3) -> tuple[float, float]:
        """The share of a in the k-th nearest neighbours' balls of b, and of b in those of a; NaN of k or fewer each.

        Source: Kynkäänniemi et al. 2019, improved precision and recall.
        """
        if len(self.between) <= k:
            return float("nan"), float("nan")
        of_a, of_b = (np.partition(within, k - 1, axis=1)[:, k - 1] for within in (self.within_a, self.within_b))
        precision, recall = (self.between <= of_b[None]).any(1), (self.between <= of_a[:, None]).any(0)
        return float(precision.mean()), float(recall.mean())


def _accuracy(own: np.ndarray, others: np.ndarray) -> float:
    """The mean share of an example's nearest neighbours that are of its own set."""
    if len(own) < 2:
        return float("nan")
    least = np.minimum(own.min(1), others.min(1))[:, None]
    right, wrong = ((squares <= least).sum(1) for squares in (own, others))
    return float(np.mean(right / (right + wrong)))


def nearest_neighbour_accuracy(a: Vectors, b: Vectors) -> float:
    """The mean of the leave-one-out 1-NN classifier's accuracies on a and on b (Lopez-Paz & Oquab 2017).

    0.5 alone says nothing: of one law both accuracies are near it, of noise they may be 0 and 1
    (`Neighbours.accuracies`). a and b [N, D], the larger set cut to the smaller one's size; NaN of fewer than two.
    """
    return float(np.mean(Neighbours.of(a, b).accuracies()))


def neighbour_figures(samples: Vectors, data: Vectors) -> dict[str, float | None]:
    """Both accuracies and their mean, precision and recall, by the names of `TwoSample`; None for those not known."""
    near = Neighbours.of(samples, data)
    (on_samples, on_data), (precision, recall) = near.accuracies(), near.precision_and_recall()
    return {
        "nearest_neighbour_accuracy": if_finite((on_samples + on_data) / 2),
        "accuracy_on_samples": if_finite(on_samples),
        "accuracy_on_data": if_finite(on_data),
        "precision": if_finite(precision),
        "recall": if_finite(recall),
    }


def if_finite(value: float) -> float | None:
    """The value, None where it is not finite."""
    return float(value) if math.isfinite(value) else None


_APART = "told apart from the data"
_COPIES = "nearer to pictures of the data than these to one another, as copies are"
READINGS = {
    (0, 0): "not told apart from the data",
    (1, 1): _APART, (1, 0): _APART, (0, 1): _APART,
    (-1, -1): _COPIES, (-1, 0): _COPIES, (0, -1): _COPIES,
    (-1, 1): "told apart from the data: further from one another than from it, as noise is",
    (1, -1): "told apart from the data: closer to one another than data are, as blurred or repeated pictures are",
}  # fmt: skip
"""By whether the accuracies on samples and on data are below 0.5 (-1), near it or above (1)."""


def reading(on_samples: float | None, on_data: float | None, count: int) -> str:
    """What the accuracies of so many samples say; those within 0.1 and two standard errors of 0.5 are near it."""
    if on_samples is None or on_data is None:
        return "not known"
    near = 0.1 + 1 / math.sqrt(count)
    sign = lambda accuracy: (accuracy > 0.5 + near) - (accuracy < 0.5 - near)
    return READINGS[sign(on_samples), sign(on_data)]


def copying_ratio(samples: Vectors, train: Vectors, held_out: Vectors) -> float:
    """Median distance of a sample to its nearest training example over that of a held-out example, all [N, D].

    About 1 for samples as new as held-out data, well below 1 for copies of the training set, above 1 for samples unlike
    the data. NaN where a set is empty, or half of the held-out examples are training examples.
    """
    if not (len(samples) and len(train) and len(held_out)):
        return float("nan")
    medians = [np.median(nearest(x, train)) for x in (samples, held_out)]
    return float(medians[0] / medians[1]) if medians[1] > 0 else float("nan")


def shared(a: np.ndarray, b: np.ndarray) -> int:
    """How many rows of a [N, D] are rows of b too, to the bit."""
    known = {row.tobytes() for row in b}
    return sum(row.tobytes() in known for row in a)
