"""Classifier-free guidance with less contrast, by projections of two denoisers on one another."""

from collections.abc import Callable

import jax.numpy as jnp

from score_sde.guidance.classifier_free import Pair
from score_sde.guidance.measurement import dot, shortened, times
from score_sde.sde import SDE, denoised, score_of
from score_sde.typing import Array, ScoreFn


def projected_difference(c: Array, u: Array, parallel: float = 0.0, longest: float | None = None) -> Array:
    """c - u, made no longer than `longest`, its part along c taken `parallel` times: of every example [B, ...].

    With c + (lambda - 1) of it in the place of c + (lambda - 1) (c - u), high lambdas saturate less; at parallel 1 and
    no bound both are the same. The published momentum over the steps has no place in a score. Source: Sadat et al.
    2024 (adaptive projected guidance), section 4.
    """
    difference = c - u
    if longest is not None:
        difference = shortened(difference, longest)
    along = times(_share(difference, c), c)
    return difference + (parallel - 1) * along


def nearest_multiple(c: Array, u: Array) -> Array:
    """s u, s = <c, u> / <u, u>, which is nearest to c: of every example [B, ...].

    s u + lambda (c - s u) is CFG-Zero*'s. Source: Fan et al. 2025, section 4.
    """
    return times(_share(c, u), u)


def by_denoisers(pair: Pair, sde: SDE, rule: Callable[[Array, Array], Array]) -> ScoreFn:
    """The score whose denoiser is rule(D_c, D_u) of a pair's two denoisers, [B, ...] each."""

    def score(x: Array, t: Array) -> Array:
        t = jnp.asarray(t)
        D = rule(*(denoised(sde, x, own, t) for own in pair(x, t)))
        return score_of(sde, x, D, t)

    return score


def _share(a: Array, b: Array) -> Array:
    """The multiple of b that is nearest to a [B], 0 where b is 0."""
    below = dot(b, b)
    return dot(a, b) / jnp.where(below > 0, below, 1)
