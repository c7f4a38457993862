"""The SDEs of a linear beta(t), VP and sub-VP (Song et al. 2021), and what every SDE of drift -beta(t)/2 x shares."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from score_sde.errors import require_increasing
from score_sde.sde.base import SDE, one_minus_exp
from score_sde.typing import Array, Time, expand


class _Beta(SDE):
    """Drift -beta(t)/2 x: what VP, sub-VP and DDPM's chain (chain.py) share; B(t) is beta's integral from 0."""

    T: float

    @abc.abstractmethod
    def beta(self, t: Time) -> Array:
        """The rate of the drift, shape of t."""

    @abc.abstractmethod
    def integrated_beta(self, t: Time) -> Array:
        """B(t), shape of t."""

    @abc.abstractmethod
    def _time_of_integrated_beta(self, b: Array) -> Array:
        """The inverse of integrated_beta, shape of its argument."""

    def drift(self, x: Array, t: Time) -> Array:
        return -0.5 * expand(self.beta(t), x) * x

    def alpha(self, t: Time) -> Array:
        return jnp.exp(-0.5 * self.integrated_beta(t))

    @property
    def prior_std(self) -> Time:
        return 1.0


class _LinearBeta(_Beta):
    """beta(t) = beta_min + t (beta_max - beta_min)."""

    beta_min: float
    beta_max: float

    def beta(self, t: Time) -> Array:
        return jnp.asarray(self.beta_min + t * (self.beta_max - self.beta_min))

    def integrated_beta(self, t: Time) -> Array:
        return jnp.asarray(t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min)))

    def _time_of_integrated_beta(self, b: Array) -> Array:
        root = jnp.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b)
        return 2 * b / (self.beta_min + root)


class VariancePreserving(_Beta):
    """g^2 = beta and sigma^2 = 1 - alpha^2 = 1 - e^{-B}."""

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(self.beta(t))

    def sigma(self, t: Time) -> Array:
        return jnp.sqrt(one_minus_exp(self.integrated_beta(t)))

    def log_snr(self, t: Time) -> Array:
        b = self.integrated_beta(t)
        return -b - jnp.log(one_minus_exp(b))

    def time(self, log_snr: Time) -> Array:
        return self._time_of_integrated_beta(jax.nn.softplus(-jnp.asarray(log_snr)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VP(_LinearBeta, VariancePreserving):
    """Variance preserving: dx = -beta(t)/2 x dt + sqrt(beta(t)) dw, sigma^2 = 1 - alpha^2.

    Source: Song et al. 2021, eq. 11.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-VP: VP's drift, g^2 = beta (1 - e^{-2B}), sigma = 1 - alpha^2 (Song et al. 2021, eq. 12).

    B is the integral of beta from 0 to t. Its variance stays below VP's at every t.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(self.beta(t) * one_minus_exp(2 * self.integrated_beta(t)))

    def sigma(self, t: Time) -> Array:
        return one_minus_exp(self.integrated_beta(t))

    def log_snr(self, t: Time) -> Array:
        b = self.integrated_beta(t)
        return -b - 2 * jnp.log(one_minus_exp(b))

    def time(self, log_snr: Time) -> Array:
        # sigma / alpha = 2 sinh(B / 2)
        return self._time_of_integrated_beta(2 * jnp.arcsinh(0.5 * jnp.exp(-0.5 * jnp.asarray(log_snr))))


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> VP:
    """A checked VP; UsageError unless 0 < beta_min < beta_max."""
    require_increasing("beta_min", beta_min, "beta_max", beta_max)
    return VP(beta_min, beta_max)


def subvp(beta_min: float = 0.1, beta_max: float = 20.0) -> SubVP:
    """A checked SubVP; UsageError unless 0 < beta_min < beta_max."""
    require_increasing("beta_min", beta_min, "beta_max", beta_max)
    return SubVP(beta_min, beta_max)
