"""Ancestral sampling for every linear SDE: the posterior of x_s given x_t and the denoised x_0."""

import dataclasses

from score_sde.sde import SDE, transition
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class Ancestral(OneStepSolver):
    """x_s = (x_t + b^2 score(x_t, t)) / a + c z, with x_t | x_s ~ N(a x_s, b^2 I).

    c = b sigma_s / sigma_t is the posterior's standard deviation given x_0 (DDPM's fixed-small, Song et al.'s VE);
    large_variance takes c = b (DDPM's fixed-large, Song et al.'s VP). Sources: Ho et al. 2020, section 3.2; Song
    et al. 2021, appendix F.
    """

    large_variance: bool = False
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        a, b = transition(sde, s, t)
        std = b if self.large_variance else b * sde.sigma(s) / sde.sigma(t)
        mean = (x + expand(b**2, x) * score(x, t)) / expand(a, x)
        return Step(mean + expand(std, x) * z, mean)
