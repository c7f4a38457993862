"""What lies beyond the border of an axis: a number, or the axis again where it closes to a circle."""

import jax.numpy as jnp
from jax import lax

from score_sde.typing import Array


def pad_axis(x: Array, axis: int, before: int, after: int, value: float = 0.0) -> Array:
    """Put `before` and `after` entries of that value around one axis of x."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (before, after, 0)
    return lax.pad(x, jnp.full((), value, x.dtype), widths)


def wrap_axis(x: Array, axis: int, before: int, after: int) -> Array:
    """y[i] = x[(i - before) mod n] along one axis of length n, of which y has n + before + after; a negative one crops.

    As slices behind one another, whose gradients are cheap in a loop too.
    """
    n = x.shape[axis]
    parts, start, stop = [], -before, n + after
    while start < stop:
        end = min((start // n + 1) * n, stop)
        parts.append(lax.slice_in_dim(x, start % n, start % n + end - start, axis=axis))
        start = end
    return lax.concatenate(parts, axis) if len(parts) > 1 else parts[0]


def surround(x: Array, axis: int, before: int, after: int, circular: bool) -> Array:
    """x with the axis itself around it if that is circular, else with zeros."""
    return wrap_axis(x, axis, before, after) if circular else pad_axis(x, axis, before, after)
