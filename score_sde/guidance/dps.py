"""Diffusion posterior sampling as a score: the likelihood of the measurement at the denoiser itself."""

import dataclasses

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, linearised
from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class DPSScore(PosteriorScore):
    """g = J^T A^T (y - A D) / sigma_y^2: equation 11 of Chung et al. 2023, as if x_0 given x_t were certain.

    It passes all bounds where sigma_y is small and the noise is not, and samplers with it, but for the limit. One
    vector-Jacobian product. The rule with a step, which is what their code does, is solvers.DPS.
    """

    limit: float | None = 1.0

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D, covary = linearised(score, sde, x, t)
        e = measurement.residual(D)
        return own, covary(measurement.A.transpose(e)) / measurement.sigma_y**2
