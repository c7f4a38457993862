"""Pictures of point sets: a disc for every point, in the colour of its largest feature; 3-D along the last axis.

Nearer points are larger and hide those behind them, which are paler.
"""

import numpy as np

SIDE = 96
"""Pixels of one picture."""
RADIUS = 4.0
"""Pixels of a disc; in 3-D from 0.6 times to 1.4 times as many."""
COLOURS = np.array(
    [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [90, 90, 90]], float
)
"""Of features in turn: Okabe & Ito's, which the colour-blind tell apart."""
PAPER = 255.0


def scatter(x: np.ndarray, dimension: int, reach: float | None = None, side: int = SIDE) -> np.ndarray:
    """Point sets [n, N, C] as pictures uint8 [n, side, side, 3], of their first two coordinates to the right and up.

    The first `dimension` of the C numbers are coordinates, of which every set's centre is in the middle; the third is
    how near a point is, further ones are not seen. reach: from the middle to the edge, None for what all points fit
    into. Points with a number that is not finite, such as absent ones, are left out.
    """
    x = np.asarray(x, np.float64)
    there = np.asarray(np.isfinite(x).all(-1))
    coordinates, features = np.where(there[..., None], x, 0)[..., :dimension], x[..., dimension:]
    centre = coordinates.sum(1, keepdims=True) / np.maximum(there.sum(1), 1)[:, None, None]
    coordinates = np.where(there[..., None], coordinates - centre, 0)
    reach = reach or extent(x, dimension)
    places = np.zeros((*there.shape, 3))
    places[..., : min(dimension, 3)] = coordinates[..., :3] / reach
    chosen = np.nan_to_num(features, nan=-np.inf).argmax(-1) if features.shape[-1] > 1 else np.zeros(there.shape, int)
    canvas = np.full((len(x), side, side, 3), PAPER)
    near = np.argsort(places[..., 2], axis=1)
    for i in range(x.shape[1]):
        at = np.arange(len(x)), near[:, i]
        _draw(canvas, places[at], COLOURS[chosen[at] % len(COLOURS)], there[at])
    return np.round(canvas).astype(np.uint8)


def extent(x: np.ndarray, dimension: int) -> float:
    """From the centre of its set to the furthest point of all, with a margin; 1 where there is none."""
    there = np.asarray(np.isfinite(x).all(-1))
    coordinates = np.where(there[..., None], x[..., :dimension], 0.0)
    centre = coordinates.sum(1, keepdims=True) / np.maximum(there.sum(1), 1)[:, None, None]
    furthest = np.abs(np.where(there[..., None], coordinates - centre, 0)).max(initial=0)
    return 1.15 * float(furthest) or 1.0


def _draw(canvas: np.ndarray, places: np.ndarray, colours: np.ndarray, there: np.ndarray) -> None:
    """One disc a picture: places [n, 3] of -1 to 1, colours [n, 3], on canvas [n, side, side, 3]."""
    side, depth = canvas.shape[1], np.clip(places[:, 2], -1, 1)
    pixels = np.arange(side) + 0.5
    right, up = ((1 + sign * v) * side / 2 for sign, v in ((1, places[:, 0]), (-1, places[:, 1])))
    apart = np.sqrt((pixels[None, None] - right[:, None, None]) ** 2 + (pixels[None, :, None] - up[:, None, None]) ** 2)
    radius = RADIUS * side / SIDE * (1 + 0.4 * depth)
    covered = np.clip(radius[:, None, None] + 0.5 - apart, 0, 1) * there[:, None, None]
    shaded = PAPER + (colours - PAPER) * (0.75 + 0.25 * depth)[:, None]
    canvas += covered[..., None] * (shaded[:, None, None] - canvas)
