"""Samples beside what was given: a picture of it, some samples, their mean and spread, what is true."""

from typing import NamedTuple

import numpy as np

from score_sde.experiment.editing import Asked, Examples
from score_sde.experiment.measuring import Measured
from score_sde.storage.images import shown

ROWS, SHOWN, COUNTED = 8, 6, 512
"""Measurements in the picture, samples of each that are seen, and that mean and spread are taken of, at most."""


class Answers(NamedTuple):
    """uint8 [rows * columns, H, W, C], row by row; and what the columns are."""

    images: np.ndarray
    columns: int
    words: str

    def __str__(self) -> str:
        return f"from left to right {self.words}"


def wanted(given: Asked, count: int) -> list[np.ndarray]:
    """The numbers of the samples, of `count`, that the picture is of: one array for every row."""
    if len(given.stored) == 1:
        return [np.arange(min(count, COUNTED))]
    starts = range(0, min(count, ROWS * given.each), given.each)
    return [np.arange(k, min(count, k + min(given.each, COUNTED))) for k in starts]


def answers(given: Asked, samples: list[np.ndarray]) -> Answers:
    """The picture of samples in the data's units, those of one measurement or example [n, ...] in every entry.

    What lies between the two of a pair has no mean and no spread.
    """
    most, pairs = max(map(len, samples)), isinstance(given, Examples) and given.end is not None
    seen, several = min(SHOWN, most), most > 1 and not pairs
    spreads = [x.astype(np.float64).std(0) for x in samples]
    widest = float(np.nanmax([np.nanmax(spread) for spread in spreads])) if several else 0.0
    every = np.concatenate([x[:SHOWN] for x in samples])
    kind, scale = every.dtype, shown(every).scale
    picture = lambda x: shown(_as(x, kind), scale).images[0]
    rows = []
    for number, (x, spread) in enumerate(zip(samples, spreads)):
        cells = [picture(_seen(given, number, x.shape[1:])), *(picture(one) for one in x[_spread(len(x), seen, pairs)])]
        cells += [np.zeros_like(cells[0])] * (seen - len(x[:seen]))
        if several:
            cells += [picture(x.mean(0)), shown(spread[None], (0, widest or 1.0)).images[0]]
        if given.truth is not None:
            cells.append(picture(given.truth[number]))
        rows.append(cells)
    what = "y" if isinstance(given, Measured) else "x"
    words = f"{what}, samples, mean, standard deviation (white is {widest:.3g}), truth if known"
    words = "one of a pair, what lies between, the other" if pairs else words
    return Answers(np.stack([cell for cells in rows for cell in cells]), len(rows[0]), words)


def _spread(count: int, seen: int, pairs: bool) -> np.ndarray:
    """Which of the samples are seen: the first, or evenly from one of a pair to the other."""
    seen = min(count, seen)
    return np.linspace(0, count - 1, seen).round().astype(int) if pairs else np.arange(seen)


def _seen(given: Asked, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """What is given, in the data's units, as an example of the shape: x; y itself, enlarged, or else A^+ y."""
    y = given.stored[number]
    if isinstance(given, Measured) and (y.ndim != len(shape) or any(n % m for n, m in zip(shape, y.shape))):
        return given.pseudo_inverse(number)
    for axis, (n, m) in enumerate(zip(shape, y.shape)):
        y = y.repeat(n // m, axis)
    return y


def _as(x: np.ndarray, kind: np.dtype) -> np.ndarray:
    """One example as a batch of the dtype, bytes rounded and clipped."""
    return (np.clip(np.round(x), 0, 255) if kind == np.uint8 else x).astype(kind)[None]
