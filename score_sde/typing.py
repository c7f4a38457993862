"""Shape aliases, the score function's type and the one broadcasting helper."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Keys = jax.Array
"""Typed PRNG keys, shape [B]: one per example."""

Time = jax.Array | float
"""A time in the SDE's own unit, shape [] or [B]."""

ScoreFn = Callable[[Array, Array], Array]
"""(x [B, ...], t [] or [B]) -> grad_x log p_t(x) [B, ...]: what training makes and everything else consumes."""

Network = Callable[[Array, Array, Array], Array]
"""(x [B, ...], noise label [B], sigma [B]) -> output [B, ...], its parameters and dropout keys bound."""

Constraint = Callable[[Keys, Array, Array], Array]
"""(keys [B], x [B, ...], s []) -> x: a projection applied after every solver step."""


def expand(a: Time, x: Array) -> Array:
    """Append axes to a ([] or [B]) so that it broadcasts against x [B, ...]; a scalar stays one."""
    a = jnp.asarray(a)
    return a if a.ndim == 0 else a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


def sum_per_example(x: Array) -> Array:
    """Sum over everything but the leading axis: [B, ...] -> [B]."""
    return x.sum(axis=tuple(range(1, x.ndim)))
