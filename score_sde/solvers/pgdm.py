"""Pseudo-inverse guidance as a rule of steps, for measurements without noise."""

import dataclasses

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import linearised, slope, solve_isotropic
from score_sde.sde import SDE
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.solvers.ddim import DDIM
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class PGDM(OneStepSolver):
    """x_s = ddim(x, D; eta) + alpha_s alpha_t J^T A^+ (y - A D): one vector-Jacobian product, sigma_y taken for 0.

    Source: Song et al. 2023 (pseudoinverse-guided diffusion models), algorithm 1.
    """

    measurement: Measurement
    eta: float = 1.0
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        own, D, covary = linearised(score, sde, x, t)
        pull = covary(solve_isotropic(self.measurement, self.measurement.residual(D), 1.0, 0.0))
        pull = expand(sde.alpha(s) * sde.alpha(t), x) * slope(sde, t, pull)
        found = DDIM(self.eta).update(sde, lambda x, t: own, x, t, s, z)
        return Step(found.x + pull, found.mean + pull)
