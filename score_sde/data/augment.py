"""From stored bytes to what the network sees, as pure functions of (key, image) per example."""

import math

import jax.numpy as jnp

from score_sde.rng import Purpose, child, uniform
from score_sde.typing import Array, Keys, expand


def random_flip(keys: Keys, images: Array) -> Array:
    """Mirror each image [B, H, W, C] left to right with probability 1/2."""
    flip = uniform(keys) < 0.5
    return jnp.where(expand(flip, images), images[:, :, ::-1], images)


def dequantize(keys: Keys, images: Array) -> Array:
    """Uniform dequantisation of images in [0, 1]: (255 x + u) / 256, u uniform in [0, 1)."""
    return (255 * images + uniform(keys, images.shape[1:])) / 256


def scale(images: Array, centered: bool) -> Array:
    """[0, 1] -> [-1, 1] where centered, unchanged otherwise."""
    return 2 * images - 1 if centered else images


def unscale(images: Array, centered: bool) -> Array:
    """The inverse of `scale`."""
    return (images + 1) / 2 if centered else images


def bits_offset(centered: bool) -> float:
    """Bits per dimension that bytes have beyond the density of dequantised, scaled images: 7 where centered, or else 8.

    P(bytes) is p(x) times the volume of the cell that `scale` makes of one of 1/256 a side: -log2 of its side.
    """
    return 8 - math.log2(scale(1.0, centered) - scale(0.0, centered))  # pyright: ignore[reportArgumentType]


def preprocess(keys: Keys, images: Array, *, flip: bool, dequantization: bool, centered: bool) -> Array:
    """uint8 images [B, H, W, C] -> float32 network input, each example by its own key."""
    x = images.astype(jnp.float32) / 255
    if flip:
        x = random_flip(child(keys, Purpose.FLIP), x)
    if dequantization:
        x = dequantize(child(keys, Purpose.DEQUANTIZATION), x)
    return scale(x, centered)


def to_uint8(images: Array, *, dequantization: bool, centered: bool) -> Array:
    """Network range -> bytes, the inverse of `preprocess`: round(255 x), or floor(256 x) where x was dequantised."""
    x = unscale(images, centered)
    levels = jnp.floor(256 * x) if dequantization else jnp.round(255 * x)
    return jnp.clip(levels, 0, 255).astype(jnp.uint8)
