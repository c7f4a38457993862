"""Guidance by what is likely: a noise-conditional classifier, or any density of clean examples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.sde import SDE, denoised
from score_sde.typing import Array, ScoreFn

LogProb = Callable[[Array, Array], Array]
"""(x [B, ...], t [] or [B]) -> log p_t(y | x) [B] in nats, up to a constant."""


def classifier_guided(score: ScoreFn, log_prob: LogProb, scale: float | Array = 1.0) -> ScoreFn:
    """s + gamma grad_x log p_t(y | x), log p in nats [B]: gamma, the `scale`, 0 is the score itself, 1 the posterior's.

    It is added to the score, so that every solver takes the right share of it; the published code that adds Sigma g to
    the mean of a step falls short of it (docs/deviations.md). Source: Song et al. 2021, section 5; Dhariwal & Nichol
    2021, algorithm 2.
    """

    def guided(x: Array, t: Array) -> Array:
        slope = jax.grad(lambda x: jnp.sum(log_prob(x, t)))(x)
        return score(x, t) + scale * slope

    return guided


def class_log_prob(logits: Callable[[Array, Array], Array], label: Array) -> LogProb:
    """log softmax(logits(x, t))[label] in nats, of a classifier x [B, ...], t -> [B, classes], label int [] or [B]."""

    def log_prob(x: Array, t: Array) -> Array:
        found = jax.nn.log_softmax(logits(x, t), axis=-1)
        chosen = jnp.broadcast_to(jnp.asarray(label), (len(x),))
        return jnp.take_along_axis(found, chosen[:, None], axis=-1)[:, 0]

    return log_prob


def guided_by(score: ScoreFn, sde: SDE, log_prob: Callable[[Array], Array], scale: float | Array = 1.0) -> ScoreFn:
    """s + gamma grad_x log p(y | D(x, t)), log_prob of clean examples x_0 [B, ...] -> [B] in nats.

    As if x_0 given x_t were the denoiser D itself: exact as t goes to 0. Of any function that jax differentiates, such
    as a classifier of clean pictures. Source: Chung et al. 2023, equation 11; Bansal et al. 2023.
    """

    def guided(x: Array, t: Array) -> Array:
        def of(x: Array) -> tuple[Array, Array]:
            own = score(x, t)
            return jnp.sum(log_prob(denoised(sde, x, own, t))), own

        slope, own = jax.grad(of, has_aux=True)(x)
        return own + scale * slope

    return guided
