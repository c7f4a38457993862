"""From pictures to the input of the FID Inception, in the three ways whose numbers are published.

| name | resizing to 299x299 | scaling | used by |
|---|---|---|---|
| tf1 | TensorFlow 1's bilinear, of 0..255 | (x - 128) / 128 | TTUR, torch-fidelity, StyleGAN, EDM, guided-diffusion |
| torch | PyTorch's bilinear, of 0..1 | 2 x - 1 | pytorch-fid |
| clean | PIL's bicubic with antialiasing, of 0..255, clipped | (x - 128) / 128 | clean-fid (Parmar et al. 2022) |

All stretch both sides to 299, leave a side that has it, and compute in float32. Numbers of different ones are never
compared. The functions take numpy's arrays or jax's: as numpy computes, tf1 is the published arithmetic to the bit.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

SIDE = 299


def tf1(images: Any, xp: ModuleType = np) -> Any:
    """uint8 [N, H, W, 3] -> float32 [N, 299, 299, 3]: neighbours at i H / 299 without half a pixel, width first."""
    x = images.astype(np.float32)
    for axis in (2, 1):
        low, high, share = _neighbours(x.shape[axis], half_pixel=False)
        first, second = xp.take(x, low, axis), xp.take(x, high, axis)
        x = first + (second - first) * _along(share, axis)
    return (x - np.float32(128)) / np.float32(128)


def torch(images: Any, xp: ModuleType = np) -> Any:
    """uint8 [N, H, W, 3] -> float32 [N, 299, 299, 3]: neighbours at (i + 1/2) H / 299 - 1/2."""
    x = images.astype(np.float32) / np.float32(255)
    for axis in (2, 1):
        low, high, share = _neighbours(x.shape[axis], half_pixel=True)
        x = xp.take(x, low, axis) * _along(1 - share, axis) + xp.take(x, high, axis) * _along(share, axis)
    return 2 * x - 1


def clean(images: Any, xp: ModuleType = np) -> Any:
    """uint8 [N, H, W, 3] -> float32 [N, 299, 299, 3]: the cubic with a = -1/2, widened where it shrinks."""
    x = images.astype(np.float32)
    for axis in (2, 1):
        if x.shape[axis] != SIDE:
            weights = _cubic(x.shape[axis]).astype(np.float64 if xp is np else np.float32)
            options = {} if xp is np else {"precision": "highest"}
            moved = xp.tensordot(xp.moveaxis(x, axis, -1), weights.T, 1, **options)
            x = xp.moveaxis(moved, -1, axis).astype(np.float32)
    return (xp.clip(x, 0, 255) - np.float32(128)) / np.float32(128)


PREPROCESSINGS: dict[str, Callable[..., Any]] = {"tf1": tf1, "torch": torch, "clean": clean}
"""By the words of evaluation.preprocessing."""


def in_colour(images: np.ndarray) -> np.ndarray:
    """Pictures [N, H, W, C] with three channels: grey repeated, what follows a grey's or colour's channels dropped."""
    channels = images.shape[-1]
    return np.repeat(images[..., :1], 3, axis=-1) if channels < 3 else images[..., :3]


def _along(share: np.ndarray, axis: int) -> np.ndarray:
    return share.reshape([-1 if i == axis else 1 for i in range(4)])


@functools.cache
def _neighbours(size: int, half_pixel: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both neighbours of each of the 299 places in so many pixels, and the share of the second, in float32."""
    step, index = np.float32(size / SIDE), np.arange(SIDE, dtype=np.float32)
    place = index * step
    if half_pixel:
        place = np.maximum(step * (index + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), place - low.astype(np.float32)


@functools.cache
def _cubic(size: int) -> np.ndarray:
    """The weights [299, size] of PIL's bicubic filter, each row's sum 1."""
    scale = size / SIDE
    widened = max(scale, 1.0)
    weights = np.zeros((SIDE, size))
    for i in range(SIDE):
        centre = (i + 0.5) * scale
        first, last = (int(centre + sign * 2 * widened + 0.5) for sign in (-1, 1))
        taps = np.arange(max(first, 0), min(last, size))
        x = np.abs((taps - centre + 0.5) / widened)
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        row = np.where(x < 1, near, np.where(x < 2, far, 0.0))
        weights[i, taps] = row / row.sum()
    return weights
