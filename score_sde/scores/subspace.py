"""Scores of examples of which a part is there: the rest gets an exact Gaussian, so that no SDE or solver knows of it.

x = P x + (I - P) x, where P is an orthogonal projection and the rest is given data N(0, TAU^2 I) of its own. Score and
log-density split exactly:

    score(x, t) = P score_P(P x, t) - (I - P) x / (alpha^2 TAU^2 + sigma^2),    log p(x) = log p_P(P x) + log p_rest

so solvers and likelihoods of all of x are those of P x beside a Gaussian that is known in closed form. P leaves out
elements that are missing, or the centre of mass of a point set (Hoogeboom et al. 2022, arXiv 2203.17003, section 3.1,
project the noise in its place).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn, Time, expand, sum_per_example

TAU = 1.0
"""Standard deviation of the rest's data, in the network's range."""


class Subspace(NamedTuple):
    """Where the examples of a batch lie.

    project: x [B, ...] -> P x, linear, self-adjoint and idempotent. dimension: the rank of P for every example [B].
    """

    project: Callable[[Array], Array]
    dimension: Array


def elements(present: Array) -> Subspace:
    """That of the elements that are there: present bool [B, ...], P x = x there and 0 elsewhere."""
    there = present.astype(jnp.float32)
    return Subspace(lambda x: jnp.where(present, x, 0), sum_per_example(there))


def centred(present: Array, dimension: int) -> Subspace:
    """That of point sets whose centre is 0: present bool [B, N, C], rows of points of which all is there, or nothing.

    P x takes the mean over the points that are there off the first `dimension` numbers of each of them. The rank is
    (n - 1) D + n (C - D), of n points.
    """
    moved = (jnp.arange(present.shape[-1]) < dimension).reshape(1, 1, -1)

    def project(x: Array) -> Array:
        own, count = jnp.where(present, x, 0), present.sum(1, keepdims=True)
        mean = jnp.where(moved, own.sum(1, keepdims=True) / jnp.maximum(count, 1).astype(x.dtype), 0)
        return jnp.where(present, own - mean, 0)

    return Subspace(project, jnp.maximum(sum_per_example(present.astype(jnp.float32)) - dimension, 0))


def filled(x: Array) -> tuple[Array, Array]:
    """x [B, ...] with 0 in the place of NaN, and what was there, bool [B, ...]."""
    absent = jnp.isnan(x)
    return jnp.where(absent, 0, x), ~absent


def within(score: ScoreFn, space: Subspace) -> ScoreFn:
    """(x, t) -> P score(P x, t), shape of x."""
    return lambda x, t: space.project(score(space.project(x), t))


def completed(score: ScoreFn, sde: SDE, space: Subspace) -> ScoreFn:
    """(x, t) -> P score(P x, t) - (I - P) x / (alpha^2 TAU^2 + sigma^2): that of all of x, shape of x."""
    own = within(score, space)

    def whole(x: Array, t: Array) -> Array:
        rest = x - space.project(x)
        return own(x, t) - rest / expand(jnp.square(_rest_std(sde, t)), x)

    return whole


def rest_log_prob(sde: SDE, space: Subspace, x: Array, t_min: float) -> Array:
    """log p_rest [B] at 0, in nats, of the probability-flow ODE from the prior to t_min under `completed`'s score.

    The flow of a Gaussian is linear: the rest is N(0, v I), v = (prior_std s(t_min) / s(T))^2, s^2 = alpha^2 TAU^2 +
    sigma^2. x [B, ...]: for its dtype and shape.
    """
    s = lambda t: _rest_std(sde, jnp.asarray(t, x.dtype))
    std = sde.prior_std * s(t_min) / s(sde.T)
    count = math.prod(x.shape[1:]) - space.dimension.astype(x.dtype)
    return -count * (0.5 * math.log(2 * math.pi) + jnp.log(std))


def _rest_std(sde: SDE, t: Time) -> Array:
    """sqrt(alpha^2 TAU^2 + sigma^2), shape of t."""
    return jnp.sqrt(jnp.square(sde.alpha(t) * TAU) + jnp.square(sde.sigma(t)))
