"""The contracts of solvers: steps from t to s < t on a grid, adaptive solves, and corrections at one t."""

import abc
from typing import Any, NamedTuple

import jax

from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE
from score_sde.typing import Array, Keys, ScoreFn

Memory = Any
"""What a multistep solver carries from step to step: a pytree of arrays; () for one-step solvers."""


class Step(NamedTuple):
    """Where a step arrived: x_s [B, ...], x_s before its noise was added, and the solver's memory."""

    x: Array
    mean: Array
    memory: Memory = ()


class Solver(abc.ABC):
    """A fixed-grid solver. keys [B], x [B, ...], t and s [] with s < t; everything is traced, nothing is static."""

    evaluations: int
    """Network evaluations per step."""

    @abc.abstractmethod
    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        """The memory before the first step on the grid `times` [N + 1], and whatever follows from the grid alone."""

    @abc.abstractmethod
    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        """One step of the reverse-time process from x at t to x at s."""


class Wrapper(Solver):
    """A solver around another, `inner`, whose evaluations and memory are its own: a subclass writes `step` alone."""

    inner: Solver

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the inner solver, in a step."""
        return self.inner.evaluations

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return self.inner.init(sde, x, times)


class NoisySolver(Solver):
    """A solver that draws one standard normal per step: a subclass writes `given`, the step given its noise."""

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        z = normal(child(keys, Purpose.NOISE), x.shape[1:], x.dtype)
        return self.given(sde, score, x, t, s, memory, z)

    @abc.abstractmethod
    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory, z: Array) -> Step:
        """The step from t to s given its noise z [B, ...]."""


class OneStepSolver(NoisySolver):
    """A solver without memory that draws one standard normal per step: a subclass writes `update` alone."""

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory, z: Array) -> Step:
        return self.update(sde, score, x, t, s, z)

    @abc.abstractmethod
    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        """The step from t to s given its noise z [B, ...]."""


class Deterministic(Solver):
    """A solver without memory that draws nothing: a subclass writes `update` alone."""

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        x = self.update(sde, score, x, t, s)
        return Step(x, x)

    @abc.abstractmethod
    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> Array:
        """x_s."""


class AdaptiveSolver(abc.ABC):
    """A solver that chooses its own steps from t to s."""

    @abc.abstractmethod
    def solve(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """x at s [B, ...] and the number of network evaluations [] or [B] (int32)."""


class Corrector(abc.ABC):
    """Markov-chain steps that leave the marginal at one t (nearly) unchanged: a subclass writes `update` alone."""

    steps: int
    """Corrections per call, one network evaluation each."""

    def correct(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array) -> Step:
        """All the corrections of x [B, ...] at time t []."""

        def body(i: int | Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            z = normal(child(keys, i), x.shape[1:], x.dtype)
            return self.update(sde, score, carry[0], t, z)[:2]

        if self.steps == 1:
            return Step(*body(0, (x, x)))
        return Step(*jax.lax.fori_loop(0, self.steps, body, (x, x)))

    @abc.abstractmethod
    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, z: Array) -> Step:
        """One correction given its noise z [B, ...]."""
