"""Brownian paths as pure functions of a key: Levy's construction, which only ever refines what was drawn before.

The increment over a dyadic part of the path is the same whatever was asked for before; so a step that is rejected and
halved sees the same path again, closer. Sources: Levy 1948; Rackauckas & Nie 2017 on what rejections must keep; Li et
al. 2020 (arXiv 2001.01328) on paths that are not stored.
"""

import jax
import jax.numpy as jnp

from score_sde.rng import child, normal
from score_sde.sde import one_minus_exp
from score_sde.typing import Array, Keys, Time, expand


def split(increment: Array, first: Time, second: Time, z: Array) -> tuple[Array, Array]:
    """(W_m - W_a, W_b - W_m) given W_b - W_a and a standard normal z, all [B, ...]: the Brownian bridge at m.

    By the clock u on which W is a Brownian motion, first = u_m - u_a and second = u_b - u_m, [] or [B]: the mean is
    first / (first + second) of the increment, the variance first second / (first + second).
    """
    share = first / jnp.maximum(first + second, jnp.finfo(z.dtype).tiny)
    left = expand(share, z) * increment + expand(jnp.sqrt(share * second), z) * z
    return left, increment - left


def decayed_increment(keys: Keys, shape: tuple[int, ...], level: Array, index: Array, decay: Array) -> Array:
    """The noise [B, *shape] that an Ornstein-Uhlenbeck process gathers over part `index` of 2^level equal parts.

    N(a, b) = (W(u_b) - W(u_a)) / sqrt(u_b) on the clock u = e^{2 r}, where r grows by `decay` over the whole interval,
    [], and level and index are int32 [B]. Its variance is 1 - e^{-2 (r_b - r_a)}, and with m between a and b
    N(a, b) = N(m, b) + e^{-(r_b - r_m)} N(a, m). In units of sqrt(u_b) nothing overflows, however long the interval.
    """
    whole = jnp.sqrt(one_minus_exp(2 * decay)) * normal(child(keys, 0), shape, decay.dtype)

    def descend(depth: Array, increment: Array) -> Array:
        """From the node at this depth above the part to the half of it that holds the part."""
        below, here = level - depth, decay / (1 << depth).astype(decay.dtype)
        node = (1 << depth) + (index >> jnp.maximum(below, 0))
        z = normal(jax.vmap(jax.random.fold_in)(keys, node), shape, decay.dtype)
        left, right = split(increment, jnp.exp(-here) * one_minus_exp(here), one_minus_exp(here), z)
        is_right = (index >> jnp.maximum(below - 1, 0)) & 1 == 1
        half = jnp.where(expand(is_right, z), right, left * jnp.exp(0.5 * here))
        return jnp.where(expand(below > 0, z), half, increment)

    return jax.lax.fori_loop(0, jnp.max(level), descend, whole)
