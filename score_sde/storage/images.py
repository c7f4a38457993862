"""Grids and PNG files."""

import io
import math
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from score_sde.storage.files import whole

GRID = 100
"""At most so many images are shown in a run's grids."""
WIDEST = 1024
"""Pixels that a small picture is enlarged to at most."""


class Shown(NamedTuple):
    """uint8 [N, H, W, C] to be looked at and, of numbers that are no bytes, what black and white stand for."""

    images: np.ndarray
    scale: tuple[float, float] | None

    def __str__(self) -> str:
        return "" if self.scale is None else f", black is {self.scale[0]:.4g} and white {self.scale[1]:.4g}"


def as_images(x: np.ndarray) -> np.ndarray:
    """Examples [N, ...] as [N, H, W, C]: [H, W] gets one channel, [D] is a line, of more axes the first are one."""
    count, shape = len(x), x.shape[1:]
    side = math.prod(shape[:-2])
    return x.reshape(count, *{0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}.get(len(shape), (side, *shape[-2:])))


def shown(x: np.ndarray, scale: tuple[float, float] | None = None) -> Shown:
    """Examples [N, ...] as pictures: bytes as they are, others from black to white by a scale.

    scale: what black and white stand for, None for the least and the largest finite number that there is.
    """
    if x.dtype == np.int32:
        return Shown(strips(x), None)
    images = as_images(x)
    if x.dtype == np.uint8:
        return Shown(images, None)
    finite = images[np.isfinite(images)]
    low, high = scale or ((float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0))
    scaled = (np.nan_to_num(images, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return Shown(np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8), (low, high))


def strips(x: np.ndarray) -> np.ndarray:
    """Tokens int32 [N, ...] as coloured strips [N, 1, L, 3]: one colour for each token, neighbours far apart in hue."""
    rows = x.reshape(len(x), 1, -1)
    hue = (rows * 0.61803398875) % 1  # the golden ratio's
    phase = 2 * np.pi * (hue[..., None] + np.array([0, 1 / 3, 2 / 3]))
    light = np.where(rows % 2, 150, 105)[..., None]
    return np.round(light + 90 * np.cos(phase)).astype(np.uint8)


def by_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Numbers of samples for a grid in rows by class [rows, columns], -1 where a class has no further sample.

    As many columns as `count` allows, never more than the largest class has samples.
    """
    classes = np.unique(labels)[:count]
    own = [np.flatnonzero(labels == c) for c in classes]
    columns = max(1, min(count // len(classes), max(map(len, own))))
    return np.array([np.pad(i[:columns], (0, max(0, columns - len(i))), constant_values=-1) for i in own])


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2, min_side: int = 48) -> Image.Image:
    """uint8 images [N, H, W, C] side by side, small ones enlarged to about `min_side` pixels by a whole factor.

    Three channels are a colour picture, and so are the first three of more; of fewer the first is a grey one.
    """
    count, height, width, channels = images.shape
    columns = columns or max(1, math.isqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, min(round(min_side / height), WIDEST // width))
    tall, wide = height * scale + padding, width * scale + padding
    canvas = np.zeros((rows * tall + padding, columns * wide + padding, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = padding + (i // columns) * tall, padding + (i % columns) * wide
        big = image.repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[top : top + big.shape[0], left : left + big.shape[1]] = big
    return Image.fromarray(canvas[..., 0] if channels < 3 else canvas[..., :3])


def mark(images: np.ndarray) -> None:
    """Write a chequerboard, which no result looks like, over every one of these pictures uint8 [N, H, W, C]."""
    height, width = images.shape[1:3]
    square = max(1, max(height, width) // 4)
    rows, columns = np.arange(height) // square, np.arange(width) // square
    images[:] = (255 * ((rows[:, None] + columns) % 2)).astype(np.uint8)[..., None]


def is_picture(path: pathlib.Path) -> bool:
    """Whether there is a picture file that is whole by its own checksums."""
    try:
        with Image.open(path) as picture:
            picture.verify()
        return True
    except (OSError, SyntaxError, ValueError):
        return False


def save_grid(path: pathlib.Path, images: np.ndarray, columns: int | None = None) -> Image.Image:
    """Write a grid as PNG, whole or not at all, and return it."""
    picture, encoded = grid(images, columns), io.BytesIO()
    picture.save(encoded, "png")  # which would tell of a full disk without a reason
    with whole(path) as unfinished:
        unfinished.write_bytes(encoded.getvalue())
    return picture


def save_samples(
    path: pathlib.Path, x: np.ndarray, labels: np.ndarray | None = None, finite: np.ndarray | None = None
) -> tuple[Image.Image, str]:
    """Write at most GRID samples [N, ...] as a grid: the first ones, or in rows by class where labels [N] differ.

    finite: bool [N]; the others are marked. Returns the picture, and what is to be said of its scale behind the file's
    name.
    """
    rows = selected(len(x), labels)
    numbers = rows.reshape(-1)
    return save_selected(path, rows, x[numbers], None if finite is None else finite[numbers])


def selected(count: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Which of `count` samples a grid shows [rows, columns], -1 where none: `by_class`, or in one row the first."""
    if labels is None or len(np.unique(labels)) == 1:
        return np.arange(min(count, GRID))[None]
    return by_class(labels, GRID)


def save_selected(
    path: pathlib.Path, rows: np.ndarray, x: np.ndarray, finite: np.ndarray | None = None
) -> tuple[Image.Image, str]:
    """As `save_samples`, of those that `selected` named: x and finite for each of them; for -1 anything."""
    found, numbers = shown(x), rows.reshape(-1)
    images = found.images.copy()
    if finite is not None:
        bad = images[~finite]
        mark(bad)
        images[~finite] = bad
    images[numbers < 0] = 0
    if x.dtype == np.int32:
        return save_grid(path, images, 1), str(found)  # a strip below the other
    return save_grid(path, images, rows.shape[1] if len(rows) > 1 else None), str(found)
