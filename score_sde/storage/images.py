"""Grids and PNG files."""

import math
import pathlib

import numpy as np
from PIL import Image

from score_sde.storage.files import whole

GRID = 100
"""At most so many images are shown in a run's grids."""


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2, min_side: int = 48) -> Image.Image:
    """uint8 images [N, H, W, C] side by side, small ones enlarged to about `min_side` pixels by a whole factor.

    Three channels are a colour picture, and so are the first three of more; of fewer the first is a grey one.
    """
    count, height, width, channels = images.shape
    columns = columns or max(1, math.isqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, round(min_side / height))
    tall, wide = height * scale + padding, width * scale + padding
    canvas = np.zeros((rows * tall + padding, columns * wide + padding, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = padding + (i // columns) * tall, padding + (i % columns) * wide
        big = image.repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[top : top + big.shape[0], left : left + big.shape[1]] = big
    return Image.fromarray(canvas[..., 0] if channels < 3 else canvas[..., :3])


def save_grid(path: pathlib.Path, images: np.ndarray, columns: int | None = None) -> Image.Image:
    """Write a grid as PNG, whole or not at all, and return it."""
    picture = grid(images, columns)
    with whole(path) as unfinished:
        picture.save(unfinished)
    return picture
