"""RePaint: replacement, with jumps back up that let the known and the unknown part come to agree."""

import abc
import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE, transition
from score_sde.solvers.base import Memory, OneStepSolver, Solver, Step
from score_sde.solvers.ddim import DDIM
from score_sde.solvers.replacement import Replacement
from score_sde.typing import Array, Keys, ScoreFn, expand

Draw = Callable[[Array, int], Array]
"""(leg, which of its draws) -> standard normals [B, ...]."""


class Travelling(Solver):
    """A solver whose step goes down in legs and back up, as `travelled` does: a subclass writes `given` alone."""

    jump: int
    repeats: int

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the network, in a step."""
        return self.jump * self.repeats

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        def draw(leg: Array, which: int) -> Array:
            return normal(child(child(child(keys, leg), which), Purpose.NOISE), x.shape[1:], x.dtype)

        return self.given(sde, score, x, t, s, draw)

    @abc.abstractmethod
    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, draw: Draw) -> Step:
        """The step by its draws."""


@dataclasses.dataclass(frozen=True)
class RePaint(Travelling):
    """From t down to s in `jump` steps, each with the replacement at its end, up to t again by noise, `repeats` times.

    One step of the solver is all of that: jump * repeats evaluations, of which the last leg down counts. The steps are
    equal in t, the noise up is the exact kernel's. eta: 1 the paper's ancestral step, 0 DDIM's; inner: another step in
    the place of both. It repairs masks of exact measurements alone. Source: Lugmayr et al. 2022, algorithm 1 and
    section 4.2.
    """

    replacement: Replacement
    jump: int = 1
    repeats: int = 3
    eta: float = 1.0
    inner: OneStepSolver | None = None

    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, draw: Draw) -> Step:
        """The step by its draws: 0 the step's, 1 the known part's, 2 the way up's."""
        solver = self.inner or DDIM(self.eta)
        up, noise = transition(sde, s, t)

        def down(n: Array, x: Array, here: Array, there: Array) -> tuple[Array, Array]:
            x, mean, _ = solver.update(sde, score, x, here, there, draw(n, 0))
            return self.replacement.given(x, there, draw(n, 1)), mean

        back = lambda n, x, mean: expand(up, x) * x + expand(noise, x) * draw(n, 2)
        return Step(*travelled(x, t, s, self.jump, self.repeats, down, back))


def travelled(
    x: Array,
    t: Array,
    s: Array,
    jump: int,
    repeats: int,
    down: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    back: Callable[[Array, Array, Array], Array],
) -> tuple[Array, Array]:
    """From x at t down to s and back to t, `repeats` times but for the last way back, in one loop over the legs.

    down(n, x, from, to): the n-th leg, one of `jump` of equal times, x and another array of its shape. back(n, x, the
    other): x at t again. What the last leg gave is returned.
    """
    legs = jump * repeats

    def leg(n: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i = n % jump
        x, other = down(n, carry[0], *(t + (s - t) * (k / jump) for k in (i, i + 1)))
        again = (i == jump - 1) & (n < legs - 1)
        return jnp.where(again, back(n, x, other), x), other

    return jax.lax.fori_loop(0, legs, leg, (x, x))
