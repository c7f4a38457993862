"""The SDEs without drift, whose variance explodes: VE (Song et al. 2021), and EDM's where time is the noise level."""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.errors import require, require_increasing
from score_sde.sde.base import SDE
from score_sde.typing import Array, Time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VE(SDE):
    """Variance exploding: dx = sigma(t) sqrt(2 log r) dw, sigma(t) = sigma_min r^t, r = sigma_max / sigma_min.

    The marginal starts at sigma_min, not 0; the prior is N(0, sigma_max^2 I). Source: Song et al. 2021, eq. 9 and
    appendix C.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0

    @property
    def _log_ratio(self) -> Array:
        return jnp.log(self.sigma_max / self.sigma_min)

    def drift(self, x: Array, t: Time) -> Array:
        return jnp.zeros_like(x)

    def diffusion(self, t: Time) -> Array:
        return self.sigma(t) * jnp.sqrt(2 * self._log_ratio)

    def alpha(self, t: Time) -> Array:
        return jnp.ones_like(self.sigma(t))

    def sigma(self, t: Time) -> Array:
        return self.sigma_min * jnp.exp(jnp.asarray(t) * self._log_ratio)

    def log_snr(self, t: Time) -> Array:
        return -2 * (jnp.log(self.sigma_min) + jnp.asarray(t) * self._log_ratio)

    def time(self, log_snr: Time) -> Array:
        return (-0.5 * jnp.asarray(log_snr) - jnp.log(self.sigma_min)) / self._log_ratio

    @property
    def prior_std(self) -> Time:
        return self.sigma_max


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Karras(SDE):
    """Variance exploding where time is the noise level itself: dx = sqrt(2 t) dw, sigma(t) = t, T = sigma_max (EDM).

    The prior is N(0, T^2 I). Source: Karras et al. 2022 (arXiv 2206.00364), section 3.
    """

    T: float = 80.0

    def drift(self, x: Array, t: Time) -> Array:
        return jnp.zeros_like(x)

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(2 * jnp.asarray(t))

    def alpha(self, t: Time) -> Array:
        return jnp.ones_like(self.sigma(t))

    def sigma(self, t: Time) -> Array:
        return jnp.asarray(t)

    def log_snr(self, t: Time) -> Array:
        return -2 * jnp.log(t)

    def time(self, log_snr: Time) -> Array:
        return jnp.exp(-0.5 * jnp.asarray(log_snr))

    @property
    def prior_std(self) -> Time:
        return self.T


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> VE:
    """A checked VE; UsageError unless 0 < sigma_min < sigma_max."""
    require_increasing("sigma_min", sigma_min, "sigma_max", sigma_max)
    return VE(sigma_min, sigma_max)


def karras(sigma_max: float = 80.0) -> Karras:
    """A checked Karras; UsageError unless sigma_max > 0."""
    require(sigma_max > 0, f"sigma_max={sigma_max} must be positive: Karras et al. take 80")
    return Karras(sigma_max)
