"""A solver whose every step ends in a projection."""

import dataclasses

from score_sde.rng import Purpose, child
from score_sde.sde import SDE
from score_sde.solvers.base import Memory, Solver, Step, Wrapper
from score_sde.typing import Array, Constraint, Keys, ScoreFn


@dataclasses.dataclass(frozen=True)
class Constrained(Wrapper):
    """The inner solver's step, then the constraint at s: what `sample` does with `constrain`, as a solver.

    Song et al. 2021's inpainting is this of any predictor.
    """

    inner: Solver
    constraint: Constraint

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        found = self.inner.step(keys, sde, score, x, t, s, memory)
        return found._replace(x=self.constraint(child(keys, Purpose.CONSTRAINT), found.x, s))
