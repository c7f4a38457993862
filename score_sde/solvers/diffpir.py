"""DiffPIR's own step: the data step of guidance/diffpir.py, and noise made anew in part."""

import dataclasses

from score_sde.guidance.diffpir import DiffPIRScore
from score_sde.guidance.measurement import Measurement
from score_sde.sde import SDE, denoised
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class DiffPIR(OneStepSolver):
    """x_s = alpha_s D_y + sigma_s (sqrt(1 - zeta) (x - alpha_t D_y) / sigma_t + sqrt(zeta) z), D_y the data step's.

    weight: its lambda. zeta: 0.1 for blurs and 1 for masks in the authors' code. No derivative of the network. Source:
    Zhu et al. 2023.
    """

    measurement: Measurement
    weight: float = 1.0
    zeta: float = 0.3
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        own, shift = DiffPIRScore(self.weight).shift(score, sde, self.measurement, x, t)
        alpha, sigma = (expand(a, x) for a in (sde.alpha(t), sde.sigma(t)))
        D = denoised(sde, x, own, t) + shift
        mean = expand(sde.alpha(s), x) * D + expand((1 - self.zeta) ** 0.5 * sde.sigma(s), x) * (x - alpha * D) / sigma
        return Step(mean + expand(self.zeta**0.5 * sde.sigma(s), x) * z, mean)
