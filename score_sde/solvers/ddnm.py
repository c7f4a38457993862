"""Denoising diffusion null-space models: the denoiser made to fit exact measurements, with travel back in time."""

import dataclasses

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import plain, solve_isotropic
from score_sde.sde import SDE
from score_sde.solvers.base import Step
from score_sde.solvers.repaint import Draw, Travelling, travelled
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class DDNM(Travelling):
    """x_s = alpha_s D' + sigma_s (eta z + sqrt(1 - eta^2) eps), D' = D + A^+ (y - A D); sigma_y taken for 0.

    From t down to s in `jump` steps equal in t, `repeats` times, each time back at t from the last D with new noise, as
    published: jump * repeats evaluations a step. No derivative of the network. Of noisy measurements solvers.DDRM is
    the authors' DDNM+. Source: Wang et al. 2023, algorithms 1 and 2.
    """

    measurement: Measurement
    eta: float = 0.85
    jump: int = 1
    repeats: int = 1

    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, draw: Draw) -> Step:
        """The step by its draws (leg, 0 the step's, 1 the way back's) -> standard normals [B, ...]."""

        def down(n: Array, x: Array, here: Array, there: Array) -> tuple[Array, Array]:
            _, D = plain(score, sde, x, here)
            eps = (x - expand(sde.alpha(here), x) * D) / expand(sde.sigma(here), x)
            fitting = D + solve_isotropic(self.measurement, self.measurement.residual(D), 1.0, 0.0)
            noise = self.eta * draw(n, 0) + (1 - self.eta**2) ** 0.5 * eps
            return expand(sde.alpha(there), x) * fitting + expand(sde.sigma(there), x) * noise, D

        back = lambda n, x, D: expand(sde.alpha(t), x) * D + expand(sde.sigma(t), x) * draw(n, 1)
        x, D = travelled(x, t, s, self.jump, self.repeats, down, back)
        return Step(x, expand(sde.alpha(s), x) * D)
