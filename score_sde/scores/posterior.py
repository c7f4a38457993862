"""One step of time: the posterior q(x_s | x_t, x_0) of a linear SDE, and the model's p(x_s | x_t) that imitates it.

With x_t | x_s ~ N(a x_s, b^2 I), s < t, both are Gaussian; their variances lie between b^2 sigma_s^2 / sigma_t^2 (exact
if x_0 is known) and b^2 (exact for standard normal data under VP). For DDPM's chain these are beta-tilde and beta.
Source: Ho et al. 2020, section 3.2; Nichol & Dhariwal 2021, section 3.1.
"""

import abc
import dataclasses

import jax.numpy as jnp

from score_sde.sde import SDE, transition
from score_sde.typing import Array, ScoreFn, Time, expand


def log_variances(sde: SDE, s: Time, t: Time) -> tuple[Array, Array]:
    """log of the smallest variance b^2 sigma_s^2 / sigma_t^2 and of the largest b^2, shape of the times."""
    large = 2 * jnp.log(transition(sde, s, t)[1])
    return large + 2 * (jnp.log(sde.sigma(s)) - jnp.log(sde.sigma(t))), large


def posterior_mean(sde: SDE, x: Array, x0: Array, s: Time, t: Time) -> Array:
    """E[x_s | x_t = x, x_0] = a sigma_s^2 / sigma_t^2 x + alpha_s b^2 / sigma_t^2 x_0, shape of x."""
    a, b = transition(sde, s, t)
    of_x, of_x0 = a * (sde.sigma(s) / sde.sigma(t)) ** 2, sde.alpha(s) * (b / sde.sigma(t)) ** 2
    return expand(of_x, x) * x + expand(of_x0, x) * x0


def posterior_sample(sde: SDE, x: Array, x0: Array, s: Time, t: Time, z: Array) -> Array:
    """The draw of q(x_s | x_t = x, x_0) that standard normals z make, shape of x; x_0 itself for s = 0."""
    std = jnp.exp(0.5 * log_variances(sde, s, t)[0])
    return posterior_mean(sde, x, x0, s, t) + expand(std, x) * z


def model_mean(sde: SDE, x: Array, score: Array, s: Time, t: Time) -> Array:
    """E[x_s | x_t = x] = (x + b^2 score) / a: the posterior's mean at the denoised x_0. score is its value at x."""
    a, b = transition(sde, s, t)
    return (x + expand(b**2, x) * score) / expand(a, x)


class Variance(abc.ABC):
    """The variance of p(x_s | x_t), between the two of `log_variances`."""

    @abc.abstractmethod
    def log(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        """Its logarithm; small and large broadcast against x [B, ...], t is [] or [B]."""

    def log_last(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        """That of the last step to x_0, likewise."""
        return self.log(x, t, small, large)


@dataclasses.dataclass(frozen=True)
class Small(Variance):
    """The posterior's (DDPM's fixed-small; Song et al.'s VE)."""

    def log(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        return small


@dataclasses.dataclass(frozen=True)
class Large(Variance):
    """That of the forward step (DDPM's fixed-large; Song et al.'s VP)."""

    def log(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        return large

    def log_last(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        return small  # decodes better, and is what Ho et al. 2020 report


@dataclasses.dataclass(frozen=True)
class Learned(Variance):
    """exp(v log large + (1 - v) log small), elementwise, v(x, t) a network's (Nichol & Dhariwal 2021, eq. 15)."""

    fraction: ScoreFn
    """(x [B, ...], t [] or [B]) -> v [B, ...]; where the score is another output of the same network, both are one
    evaluation, as the compiler merges the two."""

    def log(self, x: Array, t: Array, small: Array, large: Array) -> Array:
        v = self.fraction(x, t)
        return v * large + (1 - v) * small
