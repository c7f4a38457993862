"""Pooling over overlapping windows at full resolution, as shifted slices.

XLA's windowed maximum is 10 to 30 times slower on CPU, its gradient (a scatter) most of all, inside loops and outside.
"""

from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import lax

from score_sde.networks.padding import pad_axis
from score_sde.networks.resampling import filter_axis
from score_sde.typing import Array


def max_pool(x: Array, size: int = 5) -> Array:
    """y[i, j] = max of x over the size x size window centred at (i, j): [B, H, W, C], size odd.

    Among equal maxima the gradient goes to the first in row-major order.
    """
    return _max_axis(_max_axis(x, 2, size), 1, size)


def mean_pool(x: Array, size: int = 5) -> Array:
    """y[i, j] = sum of x over the size x size window centred at (i, j) / size^2: [B, H, W, C], size odd.

    Outside the image x is 0 and counted.
    """
    taps, pad = np.full(size, 1 / size), (size // 2, size // 2)
    return filter_axis(filter_axis(x, 1, taps, pad), 2, taps, pad)


def _max_axis(x: Array, axis: int, size: int) -> Array:
    padded = pad_axis(x, axis, size // 2, size // 2, -jnp.inf)
    shifted = [lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(size)]
    return reduce(lambda a, b: jnp.where(b > a, b, a), shifted)  # jnp.maximum would split the gradient of equals
