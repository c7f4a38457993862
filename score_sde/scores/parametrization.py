"""What a network's output means, and which noise label it is told: network <-> score.

With x_t = alpha x_0 + sigma eps, the predictions are linear in one another given x_t:
    noise     eps   = -sigma score
    score             (NCSN++: the network is told sigma and divides by it itself)
    denoiser  x_0   = (x_t + sigma^2 score) / alpha                                   (Tweedie's formula)
    velocity  v     = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2)               (Salimans & Ho 2022)
    difference  d   = eps - x_0, the velocity of straight lines                       (Liu et al. 2022)
    posterior mean    E[x_s | x_t] = (x_t + b^2 score) / a, with x_t | x_s ~ N(a x_s, b^2 I) and s one level below t
    EDM       F     = (x_0 - c_skip x_t / alpha) / c_out, from c_in x_t / alpha        (Karras et al. 2022)
    boundary  F     likewise, of a function that is the identity at the least noise    (Song et al. 2023)
The velocity's root is 1 under VP; it keeps v of unit size under sub-VP and VE too.
"""

import abc
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.sde import SDE, denoised, score_of, transition
from score_sde.typing import Array, Network, ScoreFn, expand

Label = Callable[[SDE, Array], Array]
"""(sde, t [B]) -> the noise label [B] that the network is told."""


class Prediction(abc.ABC):
    """A pair of inverse maps, and what the network is shown; x, output and score are [B, ...], t is [B]."""

    def shown(self, x: Array, sde: SDE, t: Array) -> Array:
        """The network's input for x: x itself, unless the prediction scales it."""
        return x

    @abc.abstractmethod
    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        """The score that the network's output stands for."""

    @abc.abstractmethod
    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        """The output that stands for the score."""

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        """E[x_0 | x_t] that the output stands for; by way of the score unless there is a way that loses no digits."""
        return denoised(sde, x, self.score(output, x, sde, t), t)


def _marginal(sde: SDE, t: Array, x: Array) -> tuple[Array, Array]:
    """alpha and sigma, broadcasting against x."""
    return expand(sde.alpha(t), x), expand(sde.sigma(t), x)


@dataclasses.dataclass(frozen=True)
class Noise(Prediction):
    """The network predicts eps (DDPM, Ho et al. 2020; Song et al.'s VP and sub-VP networks)."""

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        return -output / expand(sde.sigma(t), x)

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        return -expand(sde.sigma(t), x) * score


@dataclasses.dataclass(frozen=True)
class Score(Prediction):
    """The network returns the score, having divided by sigma itself where it scales by sigma (Song's VE networks)."""

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        return output

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        return score


@dataclasses.dataclass(frozen=True)
class Denoiser(Prediction):
    """The network predicts E[x_0 | x_t]."""

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        return (alpha * output - x) / sigma**2

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        return (x + sigma**2 * score) / alpha

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        return output


@dataclasses.dataclass(frozen=True)
class Velocity(Prediction):
    """The network predicts v = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2) (Salimans & Ho 2022)."""

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        norm2 = alpha**2 + sigma**2
        return -x / norm2 - alpha / (sigma * jnp.sqrt(norm2)) * output

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        norm2 = alpha**2 + sigma**2
        return -(sigma / alpha) * (x / jnp.sqrt(norm2) + jnp.sqrt(norm2) * score)

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        norm2 = alpha**2 + sigma**2
        return (alpha * x - jnp.sqrt(norm2) * sigma * output) / norm2


@dataclasses.dataclass(frozen=True)
class Difference(Prediction):
    """The network predicts d = eps - x_0, which is the velocity dx/dt of sde.Straight (Liu et al. 2022)."""

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        return -(x + alpha * output) / ((alpha + sigma) * sigma)

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        return -(x + (alpha + sigma) * sigma * score) / alpha

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, sigma = _marginal(sde, t, x)
        return (x - sigma * output) / (alpha + sigma)


@dataclasses.dataclass(frozen=True)
class PosteriorMean(Prediction):
    """The network predicts E[x_s | x_t] with s = max(t - T / num_scales, 0), one level of DDPM's chain below t.

    Source: Ho et al. 2020, section 3.2, where it trains less well than the noise.
    """

    num_scales: int

    def _kernel(self, sde: SDE, t: Array, x: Array) -> tuple[Array, Array]:
        a, b = transition(sde, jnp.maximum(t - sde.T / self.num_scales, 0), t)
        return expand(a, x), expand(b, x)

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        a, b = self._kernel(sde, t, x)
        return (a * output - x) / b**2

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        a, b = self._kernel(sde, t, x)
        return (x + b**2 * score) / a


@dataclasses.dataclass(frozen=True)
class Preconditioned(Prediction):
    """The network predicts F: its input and target have unit variance for data of standard deviation s = sigma_data.

        x_0 = c_skip y + c_out F(c_in y),  y = x_t / alpha,  r = sigma / alpha,
        c_skip = s^2 / (r^2 + s^2),  c_out = r s / sqrt(r^2 + s^2),  c_in = 1 / sqrt(r^2 + s^2),
    for any linear SDE: EDM's own has alpha = 1 and r = t. Hence score = (s F / r - c_in y) c_in / alpha.
    Source: Karras et al. 2022 (arXiv 2206.00364), table 1 and appendix B.6.
    """

    sigma_data: float = 0.5

    def _scales(self, sde: SDE, t: Array, x: Array) -> tuple[Array, Array, Array]:
        """alpha, r and c_in, broadcasting against x."""
        alpha, sigma = _marginal(sde, t, x)
        r = sigma / alpha
        return alpha, r, 1 / jnp.sqrt(r**2 + self.sigma_data**2)

    def shown(self, x: Array, sde: SDE, t: Array) -> Array:
        alpha, _, c_in = self._scales(sde, t, x)
        return c_in / alpha * x

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, r, c_in = self._scales(sde, t, x)
        return (self.sigma_data / r * output - c_in / alpha * x) * (c_in / alpha)

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, r, c_in = self._scales(sde, t, x)
        return (alpha / c_in * score + c_in / alpha * x) * (r / self.sigma_data)

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, r, c_in = self._scales(sde, t, x)
        return self.sigma_data * c_in * (self.sigma_data * c_in / alpha * x + r * output)


@dataclasses.dataclass(frozen=True)
class Boundary(Prediction):
    """The network predicts F of f(x_t, t) = c_skip y + c_out F(c_in y), y = x_t / alpha, with f = y at t = t_min.

        c_skip = s^2 / ((r - e)^2 + s^2),  c_out = (r - e) s / sqrt(r^2 + s^2),  c_in = 1 / sqrt(r^2 + s^2),
    r = sigma / alpha, e = r(t_min), s = sigma_data: a consistency model, whose f is in the denoiser's place.
    Source: Song et al. 2023 (arXiv 2303.01469), appendix C.
    """

    sigma_data: float = 0.5
    t_min: float = 0.002

    def _scales(self, sde: SDE, t: Array, x: Array) -> tuple[Array, Array, Array, Array]:
        """alpha, c_skip, c_out and c_in, broadcasting against x."""
        alpha, sigma = _marginal(sde, t, x)
        r, c_in = sigma / alpha, 1 / jnp.sqrt((sigma / alpha) ** 2 + self.sigma_data**2)
        above = r - jnp.exp(-0.5 * sde.log_snr(jnp.asarray(self.t_min, r.dtype)))
        return alpha, self.sigma_data**2 / (above**2 + self.sigma_data**2), self.sigma_data * above * c_in, c_in

    def shown(self, x: Array, sde: SDE, t: Array) -> Array:
        alpha, _, _, c_in = self._scales(sde, t, x)
        return c_in / alpha * x

    def score(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        return score_of(sde, x, self.denoised(output, x, sde, t), t)

    def output(self, score: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, c_skip, c_out, _ = self._scales(sde, t, x)
        return (denoised(sde, x, score, t) - c_skip / alpha * x) / c_out

    def denoised(self, output: Array, x: Array, sde: SDE, t: Array) -> Array:
        alpha, c_skip, c_out, _ = self._scales(sde, t, x)
        return c_skip / alpha * x + c_out * output


def time_label(sde: SDE, t: Array) -> Array:
    """999 t / T, shape of t: the label of the VP and sub-VP networks (positional embedding)."""
    return 999 * t / sde.T


def sigma_label(sde: SDE, t: Array) -> Array:
    """sigma(t), shape of t: the label of the continuous VE networks (Fourier embedding of its logarithm)."""
    return sde.sigma(t)


def alpha_label(sde: SDE, t: Array) -> Array:
    """alpha(t), of a chain the root of its cumulative product: SR3's label (Saharia et al. 2021)."""
    return sde.alpha(t)


def square_alpha_label(sde: SDE, t: Array) -> Array:
    """alpha(t)^2: Palette's label (Saharia et al. 2022), told alike by the chains that train and that sample."""
    return sde.alpha(t) ** 2


def log_sigma_label(sde: SDE, t: Array) -> Array:
    """EDM's c_noise = ln(sigma / alpha) / 4, shape of t (positional embedding; Karras et al. 2022, table 1)."""
    return -sde.log_snr(t) / 8


def root_sigma_label(sde: SDE, t: Array) -> Array:
    """(sigma / alpha)^(1/4), shape of t, for the Fourier embedding, whose logarithm makes EDM's c_noise of it."""
    return jnp.exp(log_sigma_label(sde, t))


@dataclasses.dataclass(frozen=True)
class Levels:
    """N discrete noise levels, equally spaced in t / T; as a Label, the number of the level at t, shape of t.

    Label i stands for t / T = first + (last - first) i / (N - 1). Between levels the label is fractional, which an
    embedded label bears; on a level it is whole, whatever the rounding of t.
    """

    num_scales: int
    first: float
    last: float

    def __call__(self, sde: SDE, t: Array) -> Array:
        label = (t / sde.T - self.first) * ((self.num_scales - 1) / (self.last - self.first))
        whole = jnp.round(label)
        return jnp.clip(jnp.where(jnp.abs(label - whole) < 1e-2, whole, label), 0, self.num_scales - 1)

    def time(self, sde: SDE, label: Array) -> Array:
        """The time of a label, shape of the label."""
        share = label / (self.num_scales - 1)
        return sde.T * ((1 - share) * self.first + share * self.last)


def vp_levels(num_scales: int) -> Levels:
    """DDPM's: label i is t = (i + 1) / N, so label 0 has the least noise."""
    return Levels(num_scales, 1 / num_scales, 1.0)


def ve_levels(num_scales: int) -> Levels:
    """SMLD's: label i is t = 1 - i / (N - 1), so label 0 has the most noise, sigma_max."""
    return Levels(num_scales, 1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """Turns a network into a ScoreFn: what it predicts and how the noise level is told to it."""

    prediction: Prediction
    label: Label

    def __call__(self, network: Network, sde: SDE) -> ScoreFn:
        """The score function (x [B, ...], t [] or [B]) -> [B, ...] of a network with its parameters bound."""

        def score(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(jnp.asarray(t), x.shape[:1])
            output = self._output(network, sde, x, t)
            return self.prediction.score(output, x, sde, t)

        return score

    def denoiser(self, network: Network, sde: SDE) -> ScoreFn:
        """The denoiser (x [B, ...], t [] or [B]) -> E[x_0 | x_t = x] of a network with its parameters bound."""

        def denoise(x: Array, t: Array) -> Array:
            t = jnp.broadcast_to(jnp.asarray(t), x.shape[:1])
            return self.prediction.denoised(self._output(network, sde, x, t), x, sde, t)

        return denoise

    def with_variance(self, network: Network, sde: SDE) -> Callable[[Array, Array], tuple[Array, Array]]:
        """The score and the variance fraction (posterior.Learned) of a network with twice as many output channels.

        One evaluation: (x [B, ..., C], t [] or [B]) -> score and fraction, both [B, ..., C]. The second half of the
        channels, in about [-1, 1], is mapped to [0, 1]. Source: Nichol & Dhariwal 2021, section 3.1.
        """

        def both(x: Array, t: Array) -> tuple[Array, Array]:
            t = jnp.broadcast_to(jnp.asarray(t), x.shape[:1])
            output, rest = jnp.split(self._output(network, sde, x, t), 2, axis=-1)
            return self.prediction.score(output, x, sde, t), (rest + 1) / 2

        return both

    def _output(self, network: Network, sde: SDE, x: Array, t: Array) -> Array:
        return network(self.prediction.shown(x, sde, t), self.label(sde, t), sde.sigma(t))
