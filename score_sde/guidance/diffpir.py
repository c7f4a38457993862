"""DiffPIR's data step as a score: the denoiser moved to the measurement by a proximal step, without derivatives."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, plain, solve_isotropic
from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class DiffPIRScore(PosteriorScore):
    """D_y = D + (A^T A / sigma_y^2 + lambda alpha^2 / sigma^2 I)^{-1} A^T (y - A D) / sigma_y^2, lambda the `weight`.

    No derivative of the network; A by its singular values. weight: 1 in the authors' code. Source: Zhu et al. 2023.
    """

    weight: float = 1.0

    reverse: ClassVar[bool] = False

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D = plain(score, sde, x, t)
        noise = measurement.sigma_y**2 * self.weight * (sde.alpha(t) / sde.sigma(t)) ** 2
        return own, solve_isotropic(measurement, measurement.residual(D), jnp.ones_like(noise), noise)
