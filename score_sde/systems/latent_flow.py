"""The bound of latents whose prior is the density of the probability-flow ODE."""

import dataclasses
import math

import jax.numpy as jnp

from score_sde.likelihood.ode import log_likelihood
from score_sde.scores.divergence import Divergence
from score_sde.solvers.rk45 import RK45
from score_sde.systems.autoencoder import log_mean, log_normal
from score_sde.systems.base import Condition, Params
from score_sde.systems.latent import Latent
from score_sde.typing import Array, Keys


@dataclasses.dataclass(frozen=True)
class FlowBound:
    """Of a system of latents: the log ratio of p(x, z), with p(z) by the ODE of its score, and q(z | x).

        -log p(x) <= E_q[-log p(x | z) + log q(z | x) - log p(z)]               reconstruction + entropy + prior
        log p(z) = log p_ODE(z / scale) - D log scale,  from t_min on

    Where q is p(z | x), every draw is -log p(x). The model is the decoder of latents that the ODE carries from noise to
    t_min, another than the SDE's, whose bound is by denoising. Its prior is a density whatever t_min, so that none
    flatters. divergence: exact, or an estimate, whose probes add noise to the prior and no bias.
    Sources: Vahdat et al. 2021 (arXiv 2106.05931), section 3; the ODE's density Song et al. 2021, section 4.3.
    """

    system: Latent
    divergence: Divergence
    solver: RK45
    discrete: bool = False

    def bound(self, params: Params, keys: Keys, x0: Array, condition: Condition) -> tuple[Array, dict[str, Array]]:
        """The bound of every example [B] in nats by one draw of z, and its terms; entropy is log q(z | x0).

        Raises UsageError for a codebook, whose latents have no density.
        """
        law, z, reconstruction = self.system.coded(params, keys, x0)
        entropy, prior = log_normal(z, law), -self.log_prob(params, keys, z, condition)
        terms = {"reconstruction": reconstruction, "entropy": entropy, "prior": prior}
        return reconstruction + entropy + prior, terms

    def importance_weighted(
        self, params: Params, keys: Keys, x0: Array, condition: Condition, *, samples: int
    ) -> Array:
        """-log of the mean of p(x0, z) / q(z | x0) over so many z [B], in nats (Burda et al. 2016, arXiv 1509.00519).

        A bound of exact divergences alone: the mean of a ratio whose log has noise of its own is too large.
        """
        return -log_mean(lambda own: -self.bound(params, own, x0, condition)[0], keys, samples)

    def log_prob(self, params: Params, keys: Keys, z: Array, condition: Condition) -> Array:
        """log p(z) of latents [B, *shape] in nats; keys [B] draw the probes."""
        system = self.system
        score, sde = system.score(params, condition), system.sde(params)
        options = {"divergence": self.divergence, "solver": self.solver, "t_min": system.t_min}
        found = log_likelihood(keys, score, sde, z / system.scale, **options)
        return jnp.mean(found.log_prob, axis=1) - z[0].size * math.log(system.scale)
