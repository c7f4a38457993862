"""Augmentation that does not leak into the samples: random geometry of which the network is told.

A transformed image comes with nine numbers that say how it was transformed, all zero for an image left alone, which is
what sampling asks for. Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.2, after Karras et al. 2020 (ADA).

Resampling follows theirs, twice the resolution, bilinear, and back, by another pair of filters: `midpoints` up, and
on the way down its partner, the least that makes the two inverse (a lifting step, Sweldens 1996). Theirs come from an
orthogonal wavelet and cannot be symmetric; these are, so that whatever maps pixels onto pixels does so exactly. Images
are continued beyond their borders by reflection, as often as it takes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.typing import Array, Keys, expand

LABELS = 9
"""Numbers per example that say how its image was transformed."""

SCALE, STRETCH, SHIFT = 2**0.2, 2**0.2, 1 / 8
"""One standard deviation of isotropic and anisotropic scaling (factors) and of translation (of the image's size)."""

WEIGHTS = (3 / 256, -25 / 256, 150 / 256, 150 / 256, -25 / 256, 3 / 256)
"""Of six samples, for the value in their middle: exact for polynomials of degree five (Deslauriers & Dubuc 1989)."""

REACH = len(WEIGHTS) - 1
"""How many pixels around an image the way down looks at."""


class Geometry(NamedTuple):
    """One transformation per example, every field [B]; the image is flipped, scaled, turned, stretched and shifted.

    flip_x, flip_y: 0 or 1. scale: by SCALE^scale. angle: in radians, counter-clockwise as one looks at it.
    stretch: by STRETCH^stretch along `axis` (radians from x towards y) and its inverse across. shift_x, shift_y: in
    units of SHIFT times the image's width and height. Zeros (whatever the axis) leave an image alone.
    """

    flip_x: Array
    flip_y: Array
    scale: Array
    angle: Array
    stretch: Array
    axis: Array
    shift_x: Array
    shift_y: Array

    def labels(self) -> Array:
        """What the network is told [B, 9]: flips, scale, cos - 1 and sin of the angle, stretch along x and y, shifts.

        As published: a stretch and its inverse along the opposite direction, the same line, are told apart by nothing.
        """
        turned = (jnp.cos(self.angle) - 1, jnp.sin(self.angle))
        stretched = (self.stretch * jnp.cos(self.axis), self.stretch * jnp.sin(self.axis))
        flips, shifts = (self.flip_x, self.flip_y), (self.shift_x, self.shift_y)
        return jnp.stack([*flips, self.scale, *turned, *stretched, *shifts], axis=-1)


def draw(keys: Keys, probability: float) -> Geometry:
    """Each example's transformation from its own key: a left-right flip of every second, the others with probability p.

    flips fair, scale, stretch and shifts standard normal, the angle uniform, the axis uniform for every second and x
    for the others (the release: aniso_rotate_prob = 0.5). probability 0: none, no flip either.
    """

    def one(key: Array) -> Geometry:
        gates, coins, normals, angles = jax.random.split(key, 4)
        p = probability
        on = jax.random.uniform(gates, (6,)) < jnp.array([1.0 if p > 0 else 0.0, p, p, p, p, p])
        flip_x, flip_y, scale, turn, stretch, shift = jnp.where(on, 1.0, 0.0)
        coin = jnp.floor(2 * jax.random.uniform(coins, (3,)))
        normal = jax.random.normal(normals, (4,))
        angle = jnp.pi * (2 * jax.random.uniform(angles, (2,)) - 1)
        return Geometry(
            flip_x * coin[0], flip_y * coin[1], scale * normal[0], turn * angle[0],
            stretch * normal[1], coin[2] * angle[1], shift * normal[2], shift * normal[3],
        )  # fmt: skip

    return jax.vmap(one)(keys)


def transform(images: Array, geometry: Geometry) -> Array:
    """The transformed images [B, H, W, C]; one that is flipped at most is its pixels in another order, bitwise."""
    flipped = jnp.where(expand(geometry.flip_x, images) > 0, images[:, :, ::-1], images)
    flipped = jnp.where(expand(geometry.flip_y, images) > 0, flipped[:, ::-1], flipped)
    g = geometry
    moved = (g.scale != 0) | (g.angle != 0) | (g.stretch != 0) | (g.shift_x != 0) | (g.shift_y != 0)
    return jnp.where(expand(moved, images), warp(flipped, *inverse(geometry, *images.shape[1:3])), flipped)


def augment(keys: Keys, images: Array, probability: float) -> tuple[Array, Array]:
    """Images [B, H, W, C] transformed with the given probability, and their labels [B, 9]; any range of values."""
    geometry = draw(keys, probability)
    return transform(images, geometry), geometry.labels()


def inverse(geometry: Geometry, height: int, width: int) -> tuple[Array, Array]:
    """Where a flipped image is looked up: at M (x - d) for the output's pixel x, M [B, 2, 2] and d [B, 2].

    Coordinates are (x, y) in pixels from the image's centre, y downwards. Flips are not in it.
    """
    s = SCALE**-geometry.scale
    turn, axis = _rotation(geometry.angle), _rotation(geometry.axis)
    stretch = jnp.stack([STRETCH**-geometry.stretch, STRETCH**geometry.stretch], axis=-1)
    # Accelerators round the factors of a product unless asked not to. Without a stretch, the axis's rotation and its
    # transpose would make the identity to rounding alone.
    stretched = jnp.einsum("bij,bjk,bk,blk->bil", turn, axis, stretch, axis, precision="highest")
    matrix = s[:, None, None] * jnp.where((geometry.stretch == 0)[:, None, None], turn, stretched)
    return matrix, SHIFT * jnp.stack([width * geometry.shift_x, height * geometry.shift_y], axis=-1)


def _rotation(angle: Array) -> Array:
    """Rotations [B, 2, 2] of (x, y), from x towards y."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s], axis=-1), jnp.stack([s, c], axis=-1)], axis=-2)


def warp(images: Array, matrix: Array, shift: Array) -> Array:
    """Images [B, H, W, C] looked up at M (x - d), as `inverse` has it, from and to twice their resolution."""
    height, width = images.shape[1:3]
    fine = _refine(_refine(images, 1), 2)
    grid = lambda n: jnp.asarray(_half_pixels(n), shift.dtype)
    x, y = grid(width)[None, None, :] - shift[:, :1, None], grid(height)[None, :, None] - shift[:, 1:, None]
    at = lambda row: matrix[:, row, 0, None, None] * x + matrix[:, row, 1, None, None] * y
    looked_up = jax.vmap(_bilinear)(fine, 2 * at(1) + (height - 1), 2 * at(0) + (width - 1))
    return _coarsen(_coarsen(looked_up, 1), 2)


def _half_pixels(n: int) -> np.ndarray:
    """Coordinates from the centre of the half pixels of n pixels and of REACH around them."""
    return np.arange(-2 * REACH, 2 * (n - 1 + REACH) + 1) / 2 - (n - 1) / 2


def _bilinear(image: Array, rows: Array, columns: Array) -> Array:
    """An image [H, W, C], reflected at its borders, at fractional rows and columns [...]: [..., C]."""
    height, width, channels = image.shape
    (top, down), (left, right) = _reflected(rows, height), _reflected(columns, width)
    corner, flat = top * width + left, image.reshape(-1, channels)
    step_down, step_right = min(1, height - 1) * width, min(1, width - 1)
    above = flat[corner] * (1 - right)[..., None] + flat[corner + step_right] * right[..., None]
    corner = corner + step_down
    below = flat[corner] * (1 - right)[..., None] + flat[corner + step_right] * right[..., None]
    return above * (1 - down)[..., None] + below * down[..., None]


def _reflected(position: Array, n: int) -> tuple[Array, Array]:
    """The index of n at or below a position folded into 0 .. n - 1, and how far behind it the position is."""
    period = max(2 * (n - 1), 1)
    position = jnp.mod(position, period)
    position = jnp.minimum(position, period - position) if n > 1 else jnp.zeros_like(position)
    index = jnp.clip(jnp.floor(position), 0, max(n - 2, 0))
    return index.astype(jnp.int32), position - index


def midpoints(x: Array, axis: int) -> Array:
    """The values between the samples along an axis, n - 5 of n: from between the third and the fourth on."""
    count = x.shape[axis] - REACH
    terms = [w * jax.lax.slice_in_dim(x, k, k + count, axis=axis) for k, w in enumerate(WEIGHTS)]
    return sum(terms[1:], terms[0])


def _refine(x: Array, axis: int) -> Array:
    """n samples -> 2 n - 1: themselves and the midpoints between them, the samples continued by reflection."""
    n, around = x.shape[axis], len(WEIGHTS) // 2 - 1
    places = np.abs(np.mod(np.arange(-around, n + around) + (n - 1), max(2 * (n - 1), 1)) - (n - 1))
    between = midpoints(jnp.take(x, places, axis=axis, mode="clip"), axis)
    first, last = jax.lax.slice_in_dim(x, 0, n - 1, axis=axis), jax.lax.slice_in_dim(x, n - 1, n, axis=axis)
    shape = (*x.shape[:axis], 2 * (n - 1), *x.shape[axis + 1 :])
    return jnp.concatenate([jnp.stack([first, between], axis + 1).reshape(shape), last], axis)


def _coarsen(x: Array, axis: int) -> Array:
    """2 n - 1 samples and 2 REACH on either side -> n: every other one, mended by what midpoints cannot explain."""
    n, half = (x.shape[axis] + 1) // 2 - 2 * REACH, REACH // 2
    even, odd = (jax.lax.slice_in_dim(x, k, None, 2, axis) for k in (0, 1))
    detail = jax.lax.slice_in_dim(odd, half, half + n + REACH, axis=axis) - midpoints(even, axis)
    return jax.lax.slice_in_dim(even, REACH, REACH + n, axis=axis) + 0.5 * midpoints(detail, axis)
