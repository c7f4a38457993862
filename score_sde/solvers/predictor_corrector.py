"""Predictor-corrector sampling: a solver's step to s, then corrections at s."""

import dataclasses

from score_sde.rng import Purpose, child
from score_sde.sde import SDE
from score_sde.solvers.base import Corrector, Memory, Solver, Step
from score_sde.typing import Array, Keys, ScoreFn


@dataclasses.dataclass(frozen=True)
class NoPredictor(Solver):
    """Leaves x where it is: with a corrector, annealed Langevin dynamics (Song & Ermon 2019)."""

    evaluations: int = dataclasses.field(default=0, init=False)

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        return Step(x, x)


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Any solver followed by any corrector (Song et al. 2021, algorithm 1)."""

    predictor: Solver
    corrector: Corrector

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.predictor.evaluations + self.corrector.steps

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return self.predictor.init(sde, x, times)

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        x, _, memory = self.predictor.step(keys, sde, score, x, t, s, memory)
        x, mean, _ = self.corrector.correct(child(keys, Purpose.CORRECTOR), sde, score, x, s)
        return Step(x, mean, memory)
