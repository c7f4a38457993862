"""Interpolants between data at t = 0 and noise at t = 1 as linear SDEs: flow matching and rectified flow.

x_t = alpha x_0 + sigma eps has the velocity d alpha/dt x_0 + d sigma/dt eps, whose mean given x_t is the drift of the
probability flow, whatever its SDE is called; so every solver, likelihood and guidance here is one of flows too. Flows
are often written with time running the other way, from noise at 0 to data at 1. All end at T < 1, where alpha is 1e-3
and the drift still finite. Source: Lipman et al. 2022 (arXiv 2210.02747), Liu et al. 2022 (arXiv 2209.03003).
"""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.sde.base import SDE, one_minus_exp
from score_sde.typing import Array, Time, expand

LAST_ALPHA = 1e-3
"""alpha at T."""


class _FromOne(SDE):
    """alpha = (1 - t)^n: the drift is -n x / (1 - t)."""

    def _power(self) -> Time:
        return 1.0

    def drift(self, x: Array, t: Time) -> Array:
        return -self._power() * x / expand(1 - jnp.asarray(t), x)

    def alpha(self, t: Time) -> Array:
        return 1 - jnp.asarray(t)

    @property
    def prior_std(self) -> Time:
        return self.sigma(self.T)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Straight(_FromOne):
    """x_t = (1 - t) x_0 + t eps, dx = -x / (1 - t) dt + sqrt(2 t / (1 - t)) dw: straight lines, of velocity eps - x_0.

    Source: Liu et al. 2022; Lipman et al. 2022, their conditional optimal transport.
    """

    T: float = 1 - LAST_ALPHA

    def diffusion(self, t: Time) -> Array:
        t = jnp.asarray(t)
        return jnp.sqrt(2 * t / (1 - t))

    def sigma(self, t: Time) -> Array:
        return jnp.asarray(t)

    def log_snr(self, t: Time) -> Array:
        t = jnp.asarray(t)
        return 2 * (jnp.log1p(-t) - jnp.log(t))

    def time(self, log_snr: Time) -> Array:
        return jax.nn.sigmoid(-0.5 * jnp.asarray(log_snr))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Polynomial(_FromOne):
    """alpha = (1 - t)^n, sigma = 1 - alpha, g^2 = 2 n sigma / (1 - t); n = 1 is Straight. T by `polynomial`.

    Source: Lipman et al. 2024 (arXiv 2412.06264), its polynomial scheduler.
    """

    power: float = 2.0
    T: float = 1 - LAST_ALPHA**0.5

    def _power(self) -> Time:
        return self.power

    def _minus_log_alpha(self, t: Time) -> Array:
        return -self.power * jnp.log1p(-jnp.asarray(t))

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(2 * self.power * self.sigma(t) / (1 - jnp.asarray(t)))

    def alpha(self, t: Time) -> Array:
        return jnp.exp(-self._minus_log_alpha(t))

    def sigma(self, t: Time) -> Array:
        return one_minus_exp(self._minus_log_alpha(t))

    def log_snr(self, t: Time) -> Array:
        return -2 * (self._minus_log_alpha(t) + jnp.log(self.sigma(t)))

    def time(self, log_snr: Time) -> Array:
        return one_minus_exp(jax.nn.softplus(-0.5 * jnp.asarray(log_snr)) / self.power)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearVP(_FromOne):
    """alpha = 1 - t, sigma^2 = 1 - alpha^2, g^2 = 2 / (1 - t): variance preserving.

    Source: Lipman et al. 2024 (arXiv 2412.06264), its linear variance-preserving scheduler.
    """

    T: float = 1 - LAST_ALPHA

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(2 / (1 - jnp.asarray(t)))

    def sigma(self, t: Time) -> Array:
        t = jnp.asarray(t)
        return jnp.sqrt(t * (2 - t))

    def log_snr(self, t: Time) -> Array:
        t = jnp.asarray(t)
        return 2 * jnp.log1p(-t) - jnp.log(t) - jnp.log(2 - t)

    def time(self, log_snr: Time) -> Array:
        log_snr = jnp.asarray(log_snr)
        return jax.nn.sigmoid(-log_snr) / (1 + jnp.sqrt(jax.nn.sigmoid(log_snr)))


def polynomial(power: float = 2.0) -> Polynomial:
    """A checked Polynomial whose alpha ends at 1e-3; UsageError unless power > 0."""
    require(power > 0, f"power={power} must be positive: 1 is the straight interpolant")
    return Polynomial(power, 1 - LAST_ALPHA ** (1 / power))
