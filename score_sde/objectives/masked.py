"""Masked discrete diffusion: tokens that are masked one by one, and the bound on their probability by undoing it.

A token x_i of 0 .. V - 1 is the mask V at time t with probability m(t), each on its own, and once masked remains so.
Sources: Austin et al. 2021 (the absorbing chain); Sahoo et al. 2024 (arXiv 2406.07524); Lou et al. 2024 (arXiv
2310.16834) for the score entropy.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.networks.layers import at_least_float32
from score_sde.typing import Array, expand


class Schedule(NamedTuple):
    """masked: m(t), the probability that a token is masked at t in [0, 1], m(0) = 0; weight: m'(t) / m(t)."""

    masked: Callable[[Array], Array]
    weight: Callable[[Array], Array]


def loglinear(eps: float = 0.0) -> Schedule:
    """m = (1 - eps) t, whose weight is exactly 1 / t."""
    return Schedule(lambda t: (1 - eps) * t, lambda t: 1 / t)


def cosine(eps: float = 0.0) -> Schedule:
    """m = (1 - eps) (1 - cos(pi t / 2))."""
    masked = lambda t: (1 - eps) * 2 * jnp.sin(math.pi * t / 4) ** 2
    return Schedule(masked, lambda t: math.pi / 2 / jnp.tan(math.pi * t / 4))


def cosine_squared(eps: float = 0.0) -> Schedule:
    """m = (1 - eps) sin^2(pi t / 2)."""
    masked = lambda t: (1 - eps) * jnp.sin(math.pi * t / 2) ** 2
    return Schedule(masked, lambda t: math.pi / jnp.tan(math.pi * t / 2))


def geometric(low: float = 1e-3, high: float = 1.0) -> Schedule:
    """m = 1 - exp(-sigma), sigma = low^(1 - t) high^t: neither 0 at t = 0 nor 1 at t = 1."""
    return _of_noise(lambda t: low ** (1 - t) * high**t, lambda t, sigma: sigma * math.log(high / low))


def linear(low: float = 0.0, high: float = 10.0) -> Schedule:
    """m = 1 - exp(-sigma), sigma = low + (high - low) t: not 1 at t = 1."""
    return _of_noise(lambda t: low + (high - low) * t, lambda t, sigma: high - low)


def _of_noise(sigma: Callable[[Array], Array], rate: Callable[[Array, Array], Array | float]) -> Schedule:
    """Of sigma(t) = -log(1 - m) and its rate of change."""
    return Schedule(lambda t: -jnp.expm1(-sigma(t)), lambda t: rate(t, sigma(t)) / jnp.expm1(sigma(t)))


def noise(schedule: Schedule, t: Array) -> tuple[Array, Array]:
    """sigma(t) = -log(1 - m) and sigma'(t), the rate at which a token is masked."""
    m = schedule.masked(t)
    return -jnp.log1p(-m), schedule.weight(t) * m / (1 - m)


def times(schedule: Schedule, u: Array, t_min: float, num_scales: int = 0) -> tuple[Array, Array]:
    """Time t [B] at the quantile u [B] in [0, 1), and the weight [B] of its cross-entropy in the bound.

    The bound is E_u of the weight times the sum of -log p(x_i | x_t) over masked i, for any p:

        num_scales 0:  down to t_min in continuous time, where all that is masked is decoded at once (u < t_min);
        num_scales N:  of N steps from t to s = t - 1 / N, by N (m(t) - m(s)) / m(t).
    """
    if not num_scales:
        t = jnp.maximum(u, t_min)
        return t, jnp.where(u < t_min, 1 / t_min, schedule.weight(t))
    s = jnp.floor(u * num_scales) / num_scales
    t = s + 1 / num_scales
    return t, num_scales * unmasking(schedule, t, s)


def unmasking(schedule: Schedule, t: Array, s: Array) -> Array:
    """The probability (m(t) - m(s)) / m(t) that a token that is masked at t is not at s < t, whatever x_0."""
    m = schedule.masked(t)
    return (m - schedule.masked(s)) / m


def mask(x0: Array, masked: Array, vocabulary: int) -> Array:
    """x_t [B, L]: the mask, which is the number `vocabulary`, in the places of x0 [B, L] that bool [B, L] tells."""
    return jnp.where(masked, vocabulary, x0)


def denoised(logits: Array, x: Array) -> Array:
    """log p(x_0 | x_t) [B, L, V] of a network's logits [B, L, V], x_t [B, L]; float32 at least.

    No token of x_0 is the mask, which has no logit; one that is not masked is itself, whatever the logits.
    """
    wide, vocabulary = at_least_float32(logits.dtype), logits.shape[-1]
    itself = jnp.where(jax.nn.one_hot(x, vocabulary, dtype=bool), 0.0, -jnp.inf).astype(wide)
    return jnp.where((x == vocabulary)[..., None], jax.nn.log_softmax(logits.astype(wide)), itself)


def cross_entropy(log_p: Array, x0: Array) -> Array:
    """-sum_i log p(x0_i | x_t) [B] in nats, of `denoised` [B, L, V] and x0 [B, L]: of masked tokens, others are 0."""
    return -jnp.take_along_axis(log_p, x0[..., None], -1)[..., 0].sum(-1)


def log_ratios(log_p: Array, x: Array, masked: Array) -> Array:
    """log p_t(y) / p_t(x_t) [B, L, V + 1] for every y that differs from x_t [B, L] in one token: the discrete score.

    log_p: `denoised`; masked: m(t) [B]. Of a token that is there the change to the mask alone is possible: m / (1 - m).
    """
    odds = expand(jnp.log(masked) - jnp.log1p(-masked), log_p)
    is_mask = (x == log_p.shape[-1])[..., None]
    to_mask = jnp.where(is_mask, 0.0, odds).astype(log_p.dtype)
    return jnp.concatenate([jnp.where(is_mask, log_p - odds, log_p), to_mask], -1)


def score_entropy(log_ratio: Array, x: Array, x0: Array, masked: Array) -> Array:
    """The score entropy of every token [B, L]: log_ratio [B, L, V + 1] for any score, x_t and x0 [B, L], m(t) [B].

    With r = (1 - m) / m, sum_y s_y - r log s_(x0) + r (log r - 1) of a masked token, else 0. Of `log_ratios` it is
    r times the cross-entropy, so that sigma' times it has the bound's weight (Lou et al. 2024, eq. 5).
    """
    odds = expand(jnp.log1p(-masked) - jnp.log(masked), x)
    r = jnp.exp(odds)
    own = jnp.take_along_axis(log_ratio, x0[..., None], -1)[..., 0]
    found = jnp.exp(log_ratio[..., :-1]).sum(-1) - r * own + r * (odds - 1)
    return jnp.where(x == log_ratio.shape[-1] - 1, found, 0.0)
