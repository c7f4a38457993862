"""Denoising diffusion restoration models: every direction that is measured by itself, without derivatives."""

import dataclasses

import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement, spectrum_of
from score_sde.sde import SDE, denoiser
from score_sde.solvers.base import OneStepSolver, Step
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class DDRM(OneStepSolver):
    """Every direction of A by itself: x_s / alpha_s of D and eps as predicted at x_t, with S = sigma_s / alpha_s.

    d_i = 0: D + S (sqrt(1 - eta^2) eps + eta z).
    d_i S < sigma_y: D + S (sqrt(1 - eta^2) (y - d_i D) / sigma_y + eta z).
    Else (1 - eta_b) D + eta_b y / d_i + sqrt(S^2 - (eta_b sigma_y / d_i)^2) z.
    Singular values d_i below `cut` of the largest count as 0. At eta_b = 1 it is DDNM+ (Wang et al. 2023). More steps
    are not better: eta is for a step. Source: Kawar et al. 2022.
    """

    measurement: Measurement
    eta: float = 0.85
    eta_b: float = 1.0
    cut: float = 1e-3
    evaluations: int = dataclasses.field(default=1, init=False)

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, z: Array) -> Step:
        spectrum, sigma_y = spectrum_of(self.measurement), self.measurement.sigma_y
        d = jnp.where(spectrum.values > self.cut * spectrum.values.max(), spectrum.values, 0)[None]
        S = sde.sigma(s) / sde.alpha(s)
        D = denoiser(sde, score)(x, t)
        eps = spectrum.to_v((x - sde.alpha(t) * D) / sde.sigma(t))
        D, z, y = spectrum.to_v(D), spectrum.to_v(z), spectrum.to_u(self.measurement.y)
        rest = (1 - self.eta**2) ** 0.5
        unseen, coarse = D + S * rest * eps, D + S * rest * (y - d * D) / jnp.where(sigma_y > 0, sigma_y, 1)
        inverse = 1 / jnp.where(d > 0, d, 1)
        fine = (1 - self.eta_b) * D + self.eta_b * inverse * y
        spread = jnp.sqrt(jnp.maximum(S**2 - (self.eta_b * sigma_y * inverse) ** 2, 0))
        at = lambda a, b, c: jnp.where(d == 0, a, jnp.where(d * S < sigma_y, b, c))
        mean = at(unseen, coarse, fine)
        noisy = mean + at(S * self.eta, S * self.eta, spread) * z
        return Step(*(sde.alpha(s) * spectrum.from_v(v) for v in (noisy, mean)))
