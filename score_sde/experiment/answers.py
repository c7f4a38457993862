"""Samples beside the measurements that they answer: a picture of y, some samples, their mean and spread, the truth."""

from typing import NamedTuple

import numpy as np

from score_sde.experiment.measuring import Measured
from score_sde.storage.images import shown

ROWS, SHOWN, COUNTED = 8, 6, 512
"""Measurements in the picture, samples of each that are seen, and that mean and spread are taken of, at most."""


class Answers(NamedTuple):
    """uint8 [rows * columns, H, W, C], row by row; and the spread that is white, in the data's units."""

    images: np.ndarray
    columns: int
    widest: float

    def __str__(self) -> str:
        return f"from left to right y, samples, mean, standard deviation (white is {self.widest:.3g}), truth if known"


def wanted(measured: Measured, count: int) -> list[np.ndarray]:
    """The numbers of the samples, of `count`, that the picture is of: one array for every row."""
    if len(measured.y) == 1:
        return [np.arange(min(count, COUNTED))]
    starts = range(0, min(count, ROWS * measured.each), measured.each)
    return [np.arange(k, min(count, k + min(measured.each, COUNTED))) for k in starts]


def answers(measured: Measured, samples: list[np.ndarray]) -> Answers:
    """The picture of samples in the data's units, those of one measurement [n, ...] in every entry."""
    most = max(map(len, samples))
    seen = min(SHOWN, most)
    spreads = [x.astype(np.float64).std(0) for x in samples]
    widest = float(np.nanmax([np.nanmax(spread) for spread in spreads])) if most > 1 else 0.0
    every = np.concatenate([x[:SHOWN] for x in samples])
    kind, scale = every.dtype, shown(every).scale
    picture = lambda x: shown(_as(x, kind), scale).images[0]
    rows = []
    for number, (x, spread) in enumerate(zip(samples, spreads)):
        cells = [picture(_seen(measured, number, x.shape[1:])), *(picture(one) for one in x[:seen])]
        cells += [np.zeros_like(cells[0])] * (seen - len(x[:seen]))
        if most > 1:
            cells += [picture(x.mean(0)), shown(spread[None], (0, widest or 1.0)).images[0]]
        if measured.truth is not None:
            cells.append(picture(measured.truth[number]))
        rows.append(cells)
    return Answers(np.stack([cell for cells in rows for cell in cells]), len(rows[0]), widest)


def _seen(measured: Measured, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """A measurement in the data's units as an example of the shape: y itself, enlarged, or else A^+ y."""
    y = measured.stored[number]
    if y.ndim != len(shape) or any(n % m for n, m in zip(shape, y.shape)):
        return measured.pseudo_inverse(number)
    for axis, (n, m) in enumerate(zip(shape, y.shape)):
        y = y.repeat(n // m, axis)
    return y


def _as(x: np.ndarray, kind: np.dtype) -> np.ndarray:
    """One example as a batch of the dtype, bytes rounded and clipped."""
    return (np.clip(np.round(x), 0, 255) if kind == np.uint8 else x).astype(kind)[None]
