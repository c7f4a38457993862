"""The cross entropy of latents under a score prior, by denoising (Vahdat et al. 2021)."""

import math

import jax.numpy as jnp

from score_sde.objectives.denoising import likelihood
from score_sde.sde import SDE
from score_sde.typing import Array


def cross_entropy(sde: SDE, t: Array, ratio: Array, squares: Array, *, t_min: float, dimension: int) -> Array:
    """One draw of -log p(z_0) of every example [B], in nats, of the prior that the noise eps_hat(z_t, t) stands for,

        (T - t_0) / 2 g^2 / sigma^2 |eps - eps_hat|^2 + D / 2 ln(2 pi e sigma^2(t_0)),  t_0 = t_min,

    but for KL(q(z_T | z_0) || prior), which no network changes (variational.prior_term), and with which it is a bound.

    t [B] and ratio [B] as a law of t on [t_0, T] gives them (denoising.Times), squares = |eps - eps_hat|^2 [B], summed
    over the dimension D. Both are the cross entropy at t_0, of z with the noise that is there already, and not at 0: a
    larger t_0 makes it smaller, so that figures at two t_0 say nothing of one another.
    Source: Vahdat et al. 2021 (arXiv 2106.05931), theorem 1.
    """
    end = jnp.log(sde.sigma(jnp.asarray(t_min, squares.dtype)))
    weight = 0.5 * (sde.T - t_min) * ratio * likelihood(sde, t)
    return weight * squares + dimension * (0.5 * math.log(2 * math.pi * math.e) + end)
