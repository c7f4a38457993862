"""Ancestral sampling for every linear SDE: the posterior of x_s given x_t and the denoised x_0."""

import dataclasses

import jax.numpy as jnp

from score_sde.scores.posterior import Small, Variance, log_variances, model_mean
from score_sde.sde import SDE
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class Ancestral(OneStepSolver):
    """x_s = (x_t + b^2 score(x_t, t)) / a + c z, with x_t | x_s ~ N(a x_s, b^2 I) and c^2 the `variance`'s.

    Sources: Ho et al. 2020, algorithm 2; Song et al. 2021, appendix F; Nichol & Dhariwal 2021.
    """

    variance: Variance = dataclasses.field(default_factory=Small)
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        mean = model_mean(sde, x, score(x, t), s, t)
        small, large = (expand(v, x) for v in log_variances(sde, s, t))
        return Step(mean + jnp.exp(0.5 * self.variance.log(x, t, small, large)) * z, mean)
