"""Noise around any solver of the probability-flow ODE: raised before its step (EDM), or put back after it (ancestral).

Both in y = x / alpha and r = sigma / alpha, hence for every linear SDE.
"""

import dataclasses
import math

import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.solvers.base import Deterministic, Memory, NoisySolver, OneStepSolver, Step
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class Churned(NoisySolver):
    """From t to a noisier t' with r' = r (1 + gamma), then the inner solver's step from t' to s.

    gamma = min(amount / N, sqrt(2) - 1) while low <= r <= high, else 0; N counts the steps of the grid and the final
    denoising. `inflation` multiplies the noise. Source: Karras et al. 2022, algorithm 2, with Heun its inner solver.
    """

    inner: Deterministic
    amount: float = 40.0
    low: float = 0.05
    high: float = 50.0
    inflation: float = 1.003

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.evaluations

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return jnp.asarray(min(self.amount / len(times), math.sqrt(2) - 1), times.dtype)

    def given(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory, z: Array) -> Step:
        r = sde.sigma(t) / sde.alpha(t)
        gamma = jnp.where((self.low <= r) & (r <= self.high), memory, 0.0)
        before = jnp.where(gamma > 0, sde.time(-2 * jnp.log(r * (1 + gamma))), t)
        added = r * jnp.sqrt(gamma * (2 + gamma)) * self.inflation
        raised = expand(sde.alpha(before), x) * (x / expand(sde.alpha(t), x) + expand(added, x) * z)
        x = self.inner.update(sde, score, raised, before, s)
        return Step(x, x, memory)


@dataclasses.dataclass(frozen=True)
class AncestralNoise(OneStepSolver):
    """The inner solver's step beyond s, to r_down, then noise back up to s: r_down^2 + r_up^2 = r_s^2.

    r_up = min(r_s, eta r_s sqrt(r_t^2 - r_s^2) / r_t). With DPMSolverSinglestep(2) this is k-diffusion's "2S
    ancestral", of the noise prediction its "DPM2 ancestral", with the one of order 1 the same as DDIM(eta) (Song, Meng
    & Ermon 2020).
    """

    inner: Deterministic
    eta: float = 1.0

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.evaluations

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        r_t, r_s = sde.sigma(t) / sde.alpha(t), sde.sigma(s) / sde.alpha(s)
        up = ancestral_noise(r_t, r_s, self.eta)
        below = sde.time(-jnp.log((r_s - up) * (r_s + up)))
        x = self.inner.update(sde, score, x, t, below)
        mean = expand(sde.alpha(s) / sde.alpha(below), x) * x
        return Step(mean + expand(sde.alpha(s) * up, x) * z, mean)


def ancestral_noise(r_t: Array, r_s: Array, eta: float) -> Array:
    """r_up, the part of r_s that is noise put back after a step from r_t, all of one shape."""
    return jnp.minimum(r_s, eta * r_s * jnp.sqrt((r_t - r_s) * (r_t + r_s)) / r_t)
