"""DDIM with any share of noise (Song, Meng & Ermon 2020, arXiv 2010.02502), for every linear SDE."""

import dataclasses

import jax.numpy as jnp

from score_sde.scores.posterior import log_variances
from score_sde.sde import SDE, denoiser
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class DDIM(OneStepSolver):
    """x_s = alpha_s x_0 + sqrt(sigma_s^2 - c^2) eps + c z, c = eta b sigma_s / sigma_t, x_t | x_s ~ N(a x_s, b^2 I).

    x_0 and eps are those the network predicts at x_t. eta 0 is the first-order exponential integrator of the
    probability flow, eta 1 ancestral sampling with the small variance (k-diffusion's Euler ancestral).
    """

    eta: float = 0.0
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        x0 = denoiser(sde, score)(x, t)
        eps = (x - expand(sde.alpha(t), x) * x0) / expand(sde.sigma(t), x)
        c = self.eta * jnp.exp(0.5 * log_variances(sde, s, t)[0])
        rest = jnp.sqrt(jnp.maximum(sde.sigma(s) ** 2 - c**2, 0))
        mean = expand(sde.alpha(s), x) * x0 + expand(rest, x) * eps
        return Step(mean + expand(c, x) * z, mean)
