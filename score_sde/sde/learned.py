"""Variance-preserving SDEs given by gamma(t) = -log SNR, above all one that is learned (Kingma et al. 2021)."""

import abc
import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from score_sde.sde.base import SDE
from score_sde.typing import Array, Time, expand


class Schedule(Protocol):
    """A module of gamma(t), such as networks.gamma.Gamma."""

    def apply(self, variables: Any, t: Time, /) -> Any:
        """gamma(t), shape of t, of the variables {"params": tree}; rising strictly."""
        ...


class _OfGamma(SDE):
    """alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma), g^2 = sigma^2 dgamma/dt."""

    @abc.abstractmethod
    def gamma(self, t: Time) -> Array:
        """-log(alpha^2 / sigma^2), rising strictly, shape of t."""

    def slope(self, t: Time) -> Array:
        """d gamma / dt, shape of t."""
        t = _array(t)
        return jax.jvp(self.gamma, (t,), (jnp.ones_like(t),))[1]

    def drift(self, x: Array, t: Time) -> Array:
        return -0.5 * expand(self.diffusion(t) ** 2, x) * x

    def diffusion(self, t: Time) -> Array:
        return self.sigma(t) * jnp.sqrt(self.slope(t))

    def alpha(self, t: Time) -> Array:
        return jnp.exp(-0.5 * jax.nn.softplus(self.gamma(t)))

    def sigma(self, t: Time) -> Array:
        return jnp.exp(-0.5 * jax.nn.softplus(-self.gamma(t)))

    def log_snr(self, t: Time) -> Array:
        return -self.gamma(t)

    @property
    def prior_std(self) -> Time:
        return 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tangent(_OfGamma):
    """gamma(s) = value + slope (s - t): an SDE by its gamma and its slope at the times t [B], all of shape [B].

    At these times it is the SDE that it touches, with two numbers for each example in the place of its parameters.
    """

    t: Array
    value: Array
    rate: Array
    T: float = 1.0

    def gamma(self, t: Time) -> Array:
        return self.value + self.rate * (jnp.asarray(t) - self.t)

    def time(self, log_snr: Time) -> Array:
        return self.t - (jnp.asarray(log_snr) + self.value) / self.rate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Learned(_OfGamma):
    """Variance preserving, of a learned gamma on [0, 1]: alpha^2 = sigmoid(-gamma(t)), g^2 = sigma^2 dgamma/dt.

    params: the schedule's, any tree of arrays. schedule: gamma(t) of them, such as networks.gamma.Gamma; it is no leaf.
    The log-SNR is bounded at both ends. `time`, which must not know gamma's inverse, halves an interval and ends by a
    step of Newton's, by which its derivatives are right; beyond the ends it is 0 or 1. Source: Kingma et al. 2021
    (arXiv 2107.00630), section 3.2.
    """

    params: Any
    schedule: Schedule = dataclasses.field(metadata={"static": True})
    T: float = 1.0

    def gamma(self, t: Time) -> Array:
        return self.schedule.apply({"params": self.params}, _array(t))

    def time(self, log_snr: Time) -> Array:
        wanted = -_array(log_snr)
        still, target = jax.lax.stop_gradient((self, wanted))

        def halve(_: int | Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            middle = (ends[0] + ends[1]) / 2
            above = still.gamma(middle) > target
            return jnp.where(above, ends[0], middle), jnp.where(above, middle, ends[1])

        ends = jnp.zeros_like(target), jnp.ones_like(target)
        low, high = jax.lax.fori_loop(0, jnp.finfo(target.dtype).nmant, halve, ends)
        t = (low + high) / 2
        return jnp.clip(t - (self.gamma(t) - wanted) / still.slope(t), 0, 1)

    def tangent(self, t: Array) -> Tangent:
        """The SDE that touches this one at the times t [B]."""
        return Tangent(t, self.gamma(t), self.slope(t))


def _array(t: Time) -> Array:
    return jnp.asarray(t, dtype=float if isinstance(t, float | int) else None)
