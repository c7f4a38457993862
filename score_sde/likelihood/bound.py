"""The variational bound on the log-likelihood of the reverse-time SDE, in continuous time, for every linear SDE.

    -log p(x_0) <= KL(q(x_T | x_0) || prior)                                   prior
                   + 1/2 integral_{t_min}^T g^2 / sigma^2 E|r|^2 dt            steps, r = sigma score(x_t, t) + z
                   + E[-log N(x_0; E[x_0 | x_e], (sigma_e / alpha_e)^2 I)]     reconstruction at e = t_min

It is the limit of many steps of variational_bound with the small variance, and Song et al. 2021b's (arXiv
2101.09258, theorem 3 and eq. 15) with the data's own noise kept: their E[-log prior(x_T)] and integral of
g^2 (|s - grad log q|^2 - |grad log q|^2) - 2 div f differ from the two KL terms by the entropy of x_T alone.

Girsanov: two diffusions of one g on [e, T], run backwards from q(x_T | x_0) and from the prior with drifts that differ
by g^2 (score - grad log q(x_t | x_0)), have the KL of the first two terms, which bounds that of their laws at e; the
decoder's evidence lower bound adds the third. Equality for exact scores, up to the prior and to the posterior's
variance at e, which is (sigma_e / alpha_e)^2 (1 - O(sigma_e^2)). It bounds the SDE's likelihood, not that of the
probability-flow ODE (ode.py), which for a learned score is another model.
"""

import jax
import jax.numpy as jnp

from score_sde.objectives.denoising import LikelihoodTimes, denoising, draw, half_sum, perturb
from score_sde.objectives.variational import Bound, gaussian_decoder, prior_term
from score_sde.rng import Purpose, child, normal, uniform
from score_sde.sde import SDE, denoiser
from score_sde.typing import Array, Keys, ScoreFn, expand, sum_per_example


def sde_bound(keys: Keys, score: ScoreFn, sde: SDE, x0: Array, *, samples: int, t_min: float) -> Bound:
    """The three terms of every example [B, ...] in nats, without bias: `Bound.total` is the bound on -log p(x0).

    The integral is taken at `samples` times drawn one from each of so many equal intervals of the log-SNR, where its
    weight is constant; a draw of t and z each. samples + 1 evaluations, in one loop. Repeat it with other keys for its
    standard error.

    From |r|^2, which is about |z|^2 where there is little noise, c (|z|^2 - D) is subtracted, whose mean is 0: with c
    the square of the share of the log-SNR's range that lies below t, this takes four fifths of an image's variance.
    """
    first, final = jnp.asarray(t_min, x0.dtype), jnp.asarray(sde.T, x0.dtype)
    draws = child(keys, Purpose.STEPS)

    def stratum(j: Array) -> Array:
        own = child(draws, j)
        u = ((j + uniform(child(own, Purpose.STRATA))) / samples).astype(x0.dtype)
        t, _, z = draw(own, sde, x0, LikelihoodTimes(t_min), u)
        x, sigma = perturb(sde, x0, t, z)
        return half_sum(denoising(None, score, x, t, sigma, z)) - (1 - u) ** 2 * _surplus(z)

    steps = (sde.log_snr(first) - sde.log_snr(final)) * jnp.mean(jax.lax.map(stratum, jnp.arange(samples)), axis=0)
    z = normal(child(keys, Purpose.NOISE), x0.shape[1:], x0.dtype)
    return Bound(prior_term(sde, x0), steps, _reconstruction(score, sde, x0, z, first))


def _surplus(z: Array) -> Array:
    """(|z|^2 - D) / 2 [B], of mean 0."""
    return half_sum(z**2 - 1)


def _reconstruction(score: ScoreFn, sde: SDE, x0: Array, z: Array, t: Array) -> Array:
    """The last term [B] at x_e = alpha_e x_0 + sigma_e z, e = t."""
    t = jnp.broadcast_to(t, len(x0))
    mean = denoiser(sde, score)(perturb(sde, x0, t, z)[0], t)
    decoded = gaussian_decoder(x0, mean, expand(-sde.log_snr(t), x0))
    return -sum_per_example(decoded) - _surplus(z)
