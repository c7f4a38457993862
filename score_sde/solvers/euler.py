"""Euler's method for the reverse-time SDE (Euler-Maruyama), Euler's and Heun's for the probability-flow ODE."""

import dataclasses

import jax.numpy as jnp

from score_sde.sde import SDE, Churn, reverse
from score_sde.solvers.base import Deterministic, OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(OneStepSolver):
    """x_s = x_t + drift(x_t, t) (s - t) + churn g(t) sqrt(t - s) z, weak order 1 (Song et al. 2021, appendix G).

    churn, a number or a function of t, is 1 for the reverse-time SDE; smaller ones add less noise on the way to the
    same marginals.
    """

    churn: Churn = 1.0
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        backward = reverse(sde, score, self.churn)
        mean = x + backward.drift(x, t) * (s - t)
        return Step(mean + expand(backward.diffusion(t) * jnp.sqrt(t - s), x) * z, mean)


@dataclasses.dataclass(frozen=True)
class Euler(Deterministic):
    """x_s = x_t + drift(x_t, t) (s - t) on the probability-flow ODE (Song et al. 2021, eq. 13), order 1."""

    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> Array:
        return x + reverse(sde, score, churn=0.0).drift(x, t) * (s - t)


@dataclasses.dataclass(frozen=True)
class Heun(Deterministic):
    """The two-stage Runge-Kutta methods of order 2 on the probability-flow ODE, in the SDE's own time.

    With d = drift(x_t, t), h = s - t and d' the drift at x_t + a h d, t + a h:
        x_s = x_t + h ((1 - 1 / 2a) d + 1 / 2a d'),
    a = 1 is Heun's, 1/2 the midpoint's, 2/3 Ralston's. Under EDM's SDE this is the deterministic sampler of Karras et
    al. 2022 (algorithm 1 and eq. 19); its last step, Euler's to sigma = 0, is the final denoising.
    """

    a: float = 1.0
    evaluations: int = dataclasses.field(default=2, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> Array:
        drift, h = reverse(sde, score, churn=0.0).drift, s - t
        slope = drift(x, t)
        other = drift(x + self.a * h * slope, t + self.a * h)
        return x + h * ((1 - 0.5 / self.a) * slope + 0.5 / self.a * other)
