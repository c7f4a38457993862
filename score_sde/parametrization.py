"""What a network's output means, and which noise label it is told: network <-> score.

With x_t = alpha x_0 + sigma eps, four predictions are linear in one another given x_t:
    noise     eps   = -sigma score
    score             (NCSN++: the network is told sigma and divides by it itself)
    denoiser  x_0   = (x_t + sigma^2 score) / alpha                                   (Tweedie's formula)
    velocity  v     = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2)               (Salimans & Ho 2022)
The velocity's root is 1 under VP; it keeps v of unit size under sub-VP and VE too.
"""

import abc
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.typing import Array, Network, ScoreFn, expand

Label = Callable[[SDE, Array], Array]
"""(sde, t [B]) -> the noise label [B] that the network is told."""


class Prediction(abc.ABC):
    """A pair of inverse maps; x, output and score are [B, ...], alpha and sigma broadcast against them."""

    @abc.abstractmethod
    def score(self, output: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        """The score that the network's output stands for."""

    @abc.abstractmethod
    def output(self, score: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        """The output that stands for the score."""


@dataclasses.dataclass(frozen=True)
class Noise(Prediction):
    """The network predicts eps (DDPM, Ho et al. 2020; Song et al.'s VP and sub-VP networks)."""

    def score(self, output: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return -output / sigma

    def output(self, score: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return -sigma * score


@dataclasses.dataclass(frozen=True)
class Score(Prediction):
    """The network returns the score, having divided by sigma itself where it scales by sigma (Song's VE networks)."""

    def score(self, output: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return output

    def output(self, score: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return score


@dataclasses.dataclass(frozen=True)
class Denoiser(Prediction):
    """The network predicts E[x_0 | x_t]."""

    def score(self, output: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return (alpha * output - x) / sigma**2

    def output(self, score: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        return (x + sigma**2 * score) / alpha


@dataclasses.dataclass(frozen=True)
class Velocity(Prediction):
    """The network predicts v = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2022)."""

    def score(self, output: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        norm2 = alpha**2 + sigma**2
        return -x / norm2 - alpha / (sigma * jnp.sqrt(norm2)) * output

    def output(self, score: Array, x: Array, alpha: Array, sigma: Array) -> Array:
        norm2 = alpha**2 + sigma**2
        return -(sigma / alpha) * (x / jnp.sqrt(norm2) + jnp.sqrt(norm2) * score)


def time_label(sde: SDE, t: Array) -> Array:
    """999 t / T, the label of the VP and sub-VP networks (positional embedding)."""
    return 999 * t / sde.T


def sigma_label(sde: SDE, t: Array) -> Array:
    """sigma(t), the label of the continuous VE networks (Fourier embedding of its logarithm)."""
    return sde.sigma(t)


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """Turns a network into a ScoreFn: what it predicts and how the noise level is told to it."""

    prediction: Prediction
    label: Label

    def __call__(self, network: Network, sde: SDE) -> ScoreFn:
        """The score function (x [B, ...], t [] or [B]) -> [B, ...] of a network with its parameters bound."""

        def score(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(jnp.asarray(t), x.shape[:1])
            sigma = sde.sigma(t)
            output = network(x, self.label(sde, t), sigma)
            return self.prediction.score(output, x, expand(sde.alpha(t), x), expand(sigma, x))

        return score
