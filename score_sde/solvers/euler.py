"""Euler's method for the reverse-time SDE (Euler-Maruyama) and for the probability-flow ODE."""

import dataclasses

import jax.numpy as jnp

from score_sde.sde import SDE, reverse
from score_sde.solvers.base import Memory, OneStepSolver, Solver, Step
from score_sde.typing import Array, Keys, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(OneStepSolver):
    """x_s = x_t + drift(x_t, t) (s - t) + churn g(t) sqrt(t - s) z, weak order 1 (Song et al. 2021, appendix G).

    churn 1 is the reverse-time SDE; smaller numbers add less noise on the way to the same marginals.
    """

    churn: float = 1.0
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        backward = reverse(sde, score, self.churn)
        mean = x + backward.drift(x, t) * (s - t)
        return Step(mean + expand(backward.diffusion(t) * jnp.sqrt(t - s), x) * z, mean)


@dataclasses.dataclass(frozen=True)
class Euler(Solver):
    """x_s = x_t + drift(x_t, t) (s - t) on the probability-flow ODE, order 1; draws nothing."""

    evaluations: int = dataclasses.field(default=1, init=False)

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        x = x + reverse(sde, score, churn=0.0).drift(x, t) * (s - t)
        return Step(x, x)
