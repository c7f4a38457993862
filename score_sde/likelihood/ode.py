"""The log-likelihood of the probability-flow ODE, exact or with Hutchinson's estimate of the divergence.

    d/dt [x, l] = [f(x, t), div f(x, t)],  f = drift(x, t) - g(t)^2 / 2 score(x, t),
    log p(x_0) = log prior(x_T) + l_T,  from x = x_0 and l = 0 at t_min to T

(Chen et al. 2018; Song et al. 2021, section 4.3 and appendix D.2). What is computed is the density at t_min, whose data
carry noise of sigma(t_min); what the prior differs from p_T by is part of the model.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.scores.divergence import Divergence, Estimate
from score_sde.sde import SDE, reverse
from score_sde.solvers.rk45 import RK45
from score_sde.typing import Array, Keys, ScoreFn


class LogLikelihood(NamedTuple):
    """log_prob [B, M], one column per estimate of the divergence, in nats; latents z [B, ...]; network evaluations."""

    log_prob: Array
    z: Array
    evaluations: Array


def log_likelihood(
    keys: Keys, score: ScoreFn, sde: SDE, x0: Array, *, divergence: Divergence, solver: RK45, t_min: float
) -> LogLikelihood:
    """log p(x0) in nats of every example [B, ...] by M estimates that share one solve, as no probe moves x.

    x0 as the score has it, not bytes (`bits_offset`). keys [B] draw the probes, fixed over the whole solve; the mean
    over the M columns is the estimate of each example. One evaluation is one pass of the network with its M directional
    derivatives. Pure: jit it as a whole.
    """
    return log_likelihood_given(divergence.estimate(keys, x0), score, sde, x0, solver=solver, t_min=t_min)


def log_likelihood_given(
    estimate: Estimate, score: ScoreFn, sde: SDE, x0: Array, *, solver: RK45, t_min: float
) -> LogLikelihood:
    """`log_likelihood` of x0 [B, ...], in nats, by an estimate whose directions are drawn (divergence.along's)."""
    drift = reverse(sde, score, churn=0.0).drift
    size, dimension = len(x0), math.prod(x0.shape[1:])

    @jax.jit  # traced once for all the solver's stages
    def augmented(state: Array, t: Array) -> Array:
        x = state[:, :dimension].reshape(x0.shape)
        velocity, rates = estimate(lambda y: drift(y, t), x)
        return jnp.concatenate([velocity.reshape(size, dimension), rates], axis=1)

    t, s = jnp.asarray(t_min, x0.dtype), jnp.asarray(sde.T, x0.dtype)
    rates = jax.eval_shape(lambda x: estimate(lambda y: y, x)[1], x0)  # for their number alone
    start = jnp.concatenate([x0.reshape(size, dimension), jnp.zeros(rates.shape, x0.dtype)], axis=1)
    end, evaluations = solver.integrate(augmented, start, t, s)
    z = end[:, :dimension].reshape(x0.shape)
    return LogLikelihood(sde.prior_log_prob(z)[:, None] + end[:, dimension:], z, evaluations)
