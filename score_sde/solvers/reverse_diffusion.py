"""The reverse-diffusion predictor: the forward kernel's own discretisation, run backwards."""

import dataclasses

from score_sde.sde import SDE, transition
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class ReverseDiffusion(OneStepSolver):
    """x_s = (2 - a) x_t + b^2 score(x_t, t) + b z, with x_t | x_s ~ N(a x_s, b^2 I) (Song et al. 2021, appendix E)."""

    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        a, b = transition(sde, s, t)
        mean = expand(2 - a, x) * x + expand(b**2, x) * score(x, t)
        return Step(mean + expand(b, x) * z, mean)
