"""Guidance between two noise levels, decided once for every step."""

import dataclasses

import jax

from score_sde.guidance.classifier_free import within
from score_sde.sde import SDE
from score_sde.solvers.base import Memory, Solver, Step, Wrapper
from score_sde.typing import Array, Keys, ScoreFn


@dataclasses.dataclass(frozen=True)
class LimitedSteps(Wrapper):
    """A solver whose score is the guided one in steps that begin at low < sigma / alpha <= high, and else `plain`.

    All evaluations of a step go by where it begins, as published: with EDM's Heun the evaluation at a step's end
    belongs to the step. Source: Kynkaanniemi et al. 2024.
    """

    inner: Solver
    plain: ScoreFn
    low: float
    high: float

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        inside = within(sde, t, self.low, self.high)
        chosen = lambda x, t: jax.lax.cond(inside, score, self.plain, x, t)
        return self.inner.step(keys, sde, chosen, x, t, s, memory)
