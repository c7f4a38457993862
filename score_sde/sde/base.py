"""Linear SDEs dx = f(t) x dt + g(t) dw as pure pytrees, with closed-form marginals, and their time reversal.

Every SDE here has x_t | x_0 ~ N(alpha(t) x_0, sigma(t)^2 I). Fields are pytree leaves: another beta_max does not
retrace a compiled program. Hence no checks in __post_init__ (fields may be tracers); the constructor functions
`vp`, `subvp` (linear.py), `ve` and `karras` (exploding.py) check. Source: Song et al. 2021 (arXiv 2011.13456),
section 3.4 and appendix B.
"""

import abc
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

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


class Reverse(NamedTuple):
    """Drift (x, t) -> [B, ...] and diffusion t -> shape of t of a process that runs from T down to 0."""

    drift: Callable[[Array, Time], Array]
    diffusion: Callable[[Time], Array]


Churn = float | Callable[[Time], Time]
"""The strength of the noise in the reverse-time family: a number, or a function of t to the shape of t."""


def reverse(sde: SDE, score: ScoreFn, churn: Churn = 1.0) -> Reverse:
    """The family of reverse-time processes that share the SDE's marginals.

    dx = [f(x, t) - (1 + churn^2)/2 g(t)^2 score(x, t)] dt + churn g(t) dw, with dt < 0. churn 1 is the
    reverse-time SDE (Anderson 1982; Song et al. 2021, eq. 6), churn 0 the probability-flow ODE (eq. 13).
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
    """Tweedie's formula (x, t) -> E[x_0 | x_t = x] = (x + sigma^2 score(x, t)) / alpha, shape of x (Efron 2011)."""

    def denoise(x: Array, t: Time) -> Array:
        t = jnp.asarray(t)
        return denoised(sde, x, score(x, t), t)

    return denoise


def denoised(sde: SDE, x: Array, score: Array, t: Time) -> Array:
    """E[x_0 | x_t = x] of the score's value at x, shape of x."""
    return (x + expand(sde.sigma(t) ** 2, x) * score) / expand(sde.alpha(t), x)


def score_of(sde: SDE, x: Array, D: Array, t: Time) -> Array:
    """The score's value whose denoiser is D at x, shape of x: the inverse of `denoised`."""
    return (expand(sde.alpha(t), x) * D - x) / expand(sde.sigma(t) ** 2, x)


def noised(sde: SDE, x: Array, t: Time, z: Array) -> Array:
    """alpha x + sigma z: x_0 [B, ...] with the noise z at the level of t [] or [B]."""
    mean, std = sde.marginal(x, t)
    return mean + expand(std, x) * z
