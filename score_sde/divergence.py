"""The diagonal of a vector field's Jacobian, exactly or by Hutchinson's estimate, with the field's value.

Summed over an example it is the divergence. Forward mode throughout: give it a network without loop-safe convolutions.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.typing import Array

Field = Callable[[Array], Array]
"""x [B, ...] -> [B, ...], each example's value a function of that example alone."""


def exact(field: Field, x: Array, chunk: int = 16) -> tuple[Array, Array]:
    """f(x) and df_i / dx_i, both [B, ...], by D directional derivatives, `chunk` at a time."""
    value, push = jax.linearize(field, x)
    size, dimension = len(x), math.prod(x.shape[1:])

    def entry(i: Array) -> Array:
        direction = jnp.broadcast_to(jnp.arange(dimension)[None] == i, (size, dimension)).astype(x.dtype)
        return push(direction.reshape(x.shape)).reshape(size, dimension)[:, i]

    return value, jax.lax.map(entry, jnp.arange(dimension), batch_size=chunk).T.reshape(x.shape)


def hutchinson(field: Field, x: Array, directions: Array) -> tuple[Array, Array]:
    """f(x) and the mean over m of v_m (J v_m), elementwise, both [B, ...]; directions v [M, B, ...].

    Unbiased for the diagonal where E v v^T = I (Hutchinson 1990): standard normal or Rademacher v.
    """
    value, push = jax.linearize(field, x)
    return value, jnp.mean(directions * jax.vmap(push)(directions), axis=0)
