"""Diffusion posterior sampling: an ancestral step, and one down the gradient of the distance to the measurement."""

import dataclasses

import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement, dot, times
from score_sde.guidance.posterior import linearised, slope
from score_sde.sde import SDE
from score_sde.solvers.ancestral import Ancestral
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class DPS(OneStepSolver):
    """x_s = ancestral(x, D) - scale grad_x |y - A D(x, t)|, the norm of every example by itself.

    The published codes take one norm over the batch, so that a sample depends on its neighbours. scale: 0.3 to 1,
    for every step, so that more steps guide more; it knows nothing of sigma_y. bounded: the step is no longer than the
    gradient of |y - A D|^2 / 2, which keeps it from shaking where the measurement is met; their code has no bound.
    inner: the step itself. One vector-Jacobian product. Source: Chung et al. 2023, algorithm 1.
    """

    measurement: Measurement
    scale: float = 1.0
    bounded: bool = True
    inner: OneStepSolver = dataclasses.field(default_factory=Ancestral)
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        own, D, covary = linearised(score, sde, x, t)
        e = self.measurement.residual(D)
        length = jnp.sqrt(dot(e, e))
        scale = self.scale / jnp.where(length > 0, length, 1)
        step = times(jnp.minimum(scale, 1) if self.bounded else scale, covary(self.measurement.A.transpose(e)))
        step = slope(sde, t, step)
        found = self.inner.update(sde, lambda x, t: own, x, t, s, z)
        return Step(found.x + step, found.mean + step)
