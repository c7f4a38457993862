"""Linear SDEs dx = f(t) x dt + g(t) dw as pure pytrees, with closed-form marginals, and their time reversal.

Every SDE here has x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I). Fields are pytree leaves: another beta_max does not
retrace a compiled program. Hence no checks in __post_init__ (fields may be tracers); the constructor functions
`vp`, `subvp`, `ve` and `karras` check. Source: Song et al. 2021 (arXiv 2011.13456), section 3.4 and appendix B.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.errors import require, require_increasing
from score_sde.rng import normal
from score_sde.typing import Array, Keys, ScoreFn, Time, expand, sum_per_example


class SDE(abc.ABC):
    """The contract: times t in (0, T] of shape [] or [B], states x of shape [B, ...]; float in, same float out."""

    T: float
    """Final time, where the marginal is (nearly) the prior."""

    @abc.abstractmethod
    def drift(self, x: Array, t: Time) -> Array:
        """The forward drift f(t) x, shape of x."""

    @abc.abstractmethod
    def diffusion(self, t: Time) -> Array:
        """The diffusion coefficient g(t), shape of t."""

    @abc.abstractmethod
    def alpha(self, t: Time) -> Array:
        """Mean coefficient of the marginal, shape of t."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Array:
        """Standard deviation of the marginal, shape of t."""

    @abc.abstractmethod
    def log_snr(self, t: Time) -> Array:
        """log(alpha^2 / sigma^2), strictly decreasing in t; its slope is -g^2 / sigma^2. Shape of t."""

    @abc.abstractmethod
    def time(self, log_snr: Time) -> Array:
        """The inverse of log_snr, shape of its argument."""

    @property
    @abc.abstractmethod
    def prior_std(self) -> Time:
        """Standard deviation of the prior N(0, prior_std^2 I)."""

    def marginal(self, x0: Array, t: Time) -> tuple[Array, Array]:
        """Mean alpha(t) x_0 [B, ...] and standard deviation sigma(t) (shape of t) of x_t given x_0."""
        return expand(self.alpha(t), x0) * x0, self.sigma(t)

    def prior_sample(self, keys: Keys, shape: tuple[int, ...]) -> Array:
        """Prior draws [B, *shape], one per key."""
        return self.prior_std * normal(keys, shape)

    def prior_log_prob(self, x: Array) -> Array:
        """log N(x; 0, prior_std^2 I) per example, in nats: [B, ...] -> [B]."""
        dimension = math.prod(x.shape[1:])
        variance = jnp.square(jnp.asarray(self.prior_std, x.dtype))
        return -0.5 * (dimension * jnp.log(2 * jnp.pi * variance) + sum_per_example(x**2) / variance)


def one_minus_exp(b: Array) -> Array:
    """1 - exp(-b) for b >= 0 without cancellation, as 2 T / (1 + T) with T = tanh(b / 2); shape of b.

    Not -expm1(-b): from jaxlib 0.10.2 on, XLA's CPU backend sums over the product of several expm1 wrongly.
    """
    half = jnp.tanh(0.5 * b)
    return 2 * half / (1 + half)


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
    """Variance preserving: dx = -beta(t)/2 x dt + sqrt(beta(t)) dw, sigma^2 = 1 - alpha^2 (Song et al., eq. 11)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SubVP(_LinearBeta):
    """Sub-VP: VP's drift, g^2 = beta (1 - e^{-2B}), sigma = 1 - alpha^2 (Song et al., eq. 12).

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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VE(SDE):
    """Variance exploding: dx = sigma(t) sqrt(2 log r) dw, sigma(t) = sigma_min r^t, r = sigma_max / sigma_min.

    Song et al., eq. 9 and appendix C. The marginal starts at sigma_min, not 0; the prior is N(0, sigma_max^2 I).
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


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> VP:
    """A checked VP; UsageError unless 0 < beta_min < beta_max."""
    require_increasing("beta_min", beta_min, "beta_max", beta_max)
    return VP(beta_min, beta_max)


def subvp(beta_min: float = 0.1, beta_max: float = 20.0) -> SubVP:
    """A checked SubVP; UsageError unless 0 < beta_min < beta_max."""
    require_increasing("beta_min", beta_min, "beta_max", beta_max)
    return SubVP(beta_min, beta_max)


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> VE:
    """A checked VE; UsageError unless 0 < sigma_min < sigma_max."""
    require_increasing("sigma_min", sigma_min, "sigma_max", sigma_max)
    return VE(sigma_min, sigma_max)


def karras(sigma_max: float = 80.0) -> Karras:
    """A checked Karras; UsageError unless sigma_max > 0."""
    require(sigma_max > 0, f"sigma_max={sigma_max} must be positive: Karras et al. take 80")
    return Karras(sigma_max)


class Reverse(NamedTuple):
    """Drift (x, t) -> [B, ...] and diffusion t -> shape of t of a process that runs from T down to 0."""

    drift: Callable[[Array, Time], Array]
    diffusion: Callable[[Time], Array]


Churn = float | Callable[[Time], Time]
"""The strength of the noise in the reverse-time family: a number, or a function of t to the shape of t."""


def reverse(sde: SDE, score: ScoreFn, churn: Churn = 1.0) -> Reverse:
    """The family of reverse-time processes that share the SDE's marginals.

    dx = [f(x, t) - (1 + churn^2)/2 g(t)^2 score(x, t)] dt + churn g(t) dw, with dt < 0. churn 1 is the
    reverse-time SDE (Anderson 1982; Song et al., eq. 6), churn 0 the probability-flow ODE (eq. 13).
    """
    strength = churn if callable(churn) else lambda t: churn

    def drift(x: Array, t: Time) -> Array:
        t = jnp.asarray(t)
        factor = 0.5 * (1 + strength(t) ** 2) * sde.diffusion(t) ** 2
        return sde.drift(x, t) - expand(factor, x) * score(x, t)

    return Reverse(drift, lambda t: strength(t) * sde.diffusion(t))


def transition(sde: SDE, s: Time, t: Time) -> tuple[Array, Array]:
    """The exact forward kernel x_t | x_s ~ N(a x_s, b^2 I) for s <= t: (a, b), shape of the times.

    a = alpha_t / alpha_s, b^2 = sigma_t^2 - a^2 sigma_s^2 = sigma_t^2 (1 - exp(log_snr_t - log_snr_s)), the latter
    form for close times: at steps of 1/1000 its float32 error is 1e-4 of b^2.
    """
    a = sde.alpha(t) / sde.alpha(s)
    b = sde.sigma(t) * jnp.sqrt(one_minus_exp(sde.log_snr(s) - sde.log_snr(t)))
    return a, b


def denoiser(sde: SDE, score: ScoreFn) -> Callable[[Array, Time], Array]:
    """Tweedie's formula (x, t) -> E[x_0 | x_t = x] = (x + sigma^2 score(x, t)) / alpha."""

    def denoise(x: Array, t: Time) -> Array:
        t = jnp.asarray(t)
        return (x + expand(sde.sigma(t) ** 2, x) * score(x, t)) / expand(sde.alpha(t), x)

    return denoise
