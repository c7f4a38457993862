"""Pseudo-inverse guided diffusion: x_0 given x_t as an isotropic Gaussian about the denoiser."""

import dataclasses

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, linearised, solve_isotropic
from score_sde.sde import SDE
from score_sde.sde.analytic import noised_variance
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class PiGDM(PosteriorScore):
    """g = J^T A^T (r^2 A A^T + sigma_y^2 I)^{-1} (y - A D), r^2 = sigma^2 v / (sigma^2 + alpha^2 v), v the `variance`.

    One vector-Jacobian product; A by its singular values. v is the data's variance, 1 in the paper. Source: Song et al.
    2023 (pseudoinverse-guided diffusion models).
    """

    variance: float = 1.0

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D, covary = linearised(score, sde, x, t)
        r2 = noised_variance(sde, t, self.variance)
        return own, covary(solve_isotropic(measurement, measurement.residual(D), r2, measurement.sigma_y**2))
