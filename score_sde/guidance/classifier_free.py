"""Classifier-free guidance and autoguidance: from one score past another, everywhere or between two noise levels."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from score_sde.guidance.limits import rescaled
from score_sde.names import MASK
from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn, Time, expand

Pair = Callable[[Array, Array], tuple[Array, Array]]
"""(x [B, ...], t [] or [B]) -> two scores at x, the one that is asked for and the one to get away from."""


def classifier_free(pair: Pair, scale: float | Array, rescale: float = 0.0) -> ScoreFn:
    """The score u + lambda (c - u) of (c, u) = pair(x, t), lambda the `scale`: 1 is c and 0 is u, to the bit.

    With w = lambda - 1 it is (1 + w) c - w u (Ho & Salimans 2022). c of a class and u of no class: classifier-free
    guidance. c of a network and u of a weaker one that is told the same: autoguidance (Karras et al. 2024). It is the
    score of no data at lambda other than 0 and 1. scale [] or [B]. rescale: the share of limits.rescaled.
    """

    def score(x: Array, t: Array) -> Array:
        c, u = pair(x, t)
        guided = between(c, u, scale)
        return rescaled(guided, c, rescale) if rescale else guided

    return score


def between(c: Array, u: Array, scale: float | Array) -> Array:
    """u + lambda (c - u), reckoned from the nearer end: of scores as of denoisers, noises and velocities."""
    scale = expand(jnp.asarray(scale, c.dtype), c)
    return jnp.where(scale < 0.5, u + scale * (c - u), c + (scale - 1) * (c - u))


def batched(score: ScoreFn) -> Pair:
    """Both scores by one evaluation of twice the batch: score takes x [2 B, ...], first c's examples and then u's."""

    def pair(x: Array, t: Array) -> tuple[Array, Array]:
        t = jnp.asarray(t)
        both = score(jnp.concatenate([x, x]), t if t.ndim == 0 else jnp.concatenate([t, t]))
        return both[: len(x)], both[len(x) :]

    return pair


def with_null(condition: Mapping[str, Array], null: int, text: bool = False) -> dict[str, Array]:
    """The conditions of twice the batch, whose second half has the null label and a text of which nothing is there.

    text: whether there is one, of which condition["mask"] [B, L] says which rows are there.
    """
    nothing = {"label": null} | ({MASK: False} if text else {})

    def twice(name: str, value: Array) -> Array:
        value = jnp.asarray(value)
        return jnp.concatenate([value, jnp.full_like(value, nothing[name]) if name in nothing else value])

    return {name: twice(name, value) for name, value in condition.items()}


def apart(c: ScoreFn, u: ScoreFn) -> Pair:
    """Two scores of two networks."""
    return lambda x, t: (c(x, t), u(x, t))


def limited(guided: ScoreFn, plain: ScoreFn, sde: SDE, low: float, high: float) -> ScoreFn:
    """guided where low < sigma / alpha <= high, plain elsewhere, of which one alone is evaluated at a t [] for all.

    Source: Kynkaanniemi et al. 2024, who decide by the step (solvers.LimitedSteps).
    """

    def score(x: Array, t: Array) -> Array:
        inside = within(sde, t, low, high)
        if inside.ndim == 0:
            return jax.lax.cond(inside, guided, plain, x, t)
        return jnp.where(expand(inside, x), guided(x, t), plain(x, t))

    return score


def within(sde: SDE, t: Time, low: float, high: float) -> Array:
    """Whether low < sigma / alpha <= high, shape of t."""
    level = jnp.exp(-0.5 * sde.log_snr(jnp.asarray(t)))
    return (low < level) & (level <= high)
