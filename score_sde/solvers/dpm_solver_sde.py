"""DPM-Solver++ (SDE) of k-diffusion: two stages on the reverse-time SDE, their noises cut from one Brownian path."""

import dataclasses

import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE, denoiser
from score_sde.solvers.base import Memory, Solver, Step
from score_sde.solvers.brownian import split
from score_sde.solvers.churn import ancestral_noise
from score_sde.solvers.exponential import Node, node
from score_sde.typing import Array, Keys, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class DPMSolverSDE(Solver):
    """y_s = c y_t + (1 - c) D_m + up z in y = x / alpha and r = sigma / alpha, c = sqrt(r_s^2 - up^2) / r_t.

    D_m = E[x_0 | x_m] at the middle of the step in log r, to which the same rule leads from t with D_t; up is that of
    AncestralNoise(eta). z = (W(r_t) - W(r_s)) / sqrt(r_t - r_s) and the noise up to the middle are of one path W, a
    Brownian motion in r: on Gaussian data the law's error falls by the square of the step, with independent noises by
    the step alone. Source: k-diffusion's dpmpp_sde, after Lu et al. 2022 (arXiv 2211.01095).
    """

    eta: float = 1.0
    evaluations: int = dataclasses.field(default=2, init=False)

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        return ()

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        keys = child(keys, Purpose.NOISE)
        z, between = (normal(child(keys, i), x.shape[1:], x.dtype) for i in range(2))
        return self.given(sde, score, x, t, s, memory, z, between)

    def given(
        self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory, z: Array, between: Array
    ) -> Step:
        """The step from t to s given z, and the normals [B, ...] of the bridge that has the path at the middle."""
        a, m, b = (node(sde, time) for time in (t, sde.time(0.5 * (sde.log_snr(t) + sde.log_snr(s))), s))
        r_a, r_m, r_b = (n.sigma / n.alpha for n in (a, m, b))
        first, _ = split(jnp.sqrt(r_a - r_b) * z, r_a - r_m, r_m - r_b, between)
        denoised = denoiser(sde, score)
        inner = self._stage(x, denoised(x, a.t), a, m, first / jnp.sqrt(r_a - r_m))
        return self._stage(x, denoised(inner.x, m.t), a, b, z)

    def _stage(self, x: Array, denoised: Array, a: Node, b: Node, z: Array) -> Step:
        """From a to b with a denoised image and a standard normal."""
        r_a, r_b = a.sigma / a.alpha, b.sigma / b.alpha
        up = ancestral_noise(r_a, r_b, self.eta)
        kept = jnp.sqrt((r_b - up) * (r_b + up)) / r_a
        mean = expand(b.alpha / a.alpha * kept, x) * x + expand(b.alpha * (1 - kept), x) * denoised
        return Step(mean + expand(b.alpha * up, x) * z, mean)
