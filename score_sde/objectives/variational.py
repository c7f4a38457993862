"""DDPM's variational bound for any linear SDE on any grid of times: -log p(x_0) <= L_T + sum_k L_k + L_0, in nats.

    L_T  KL(q(x_T | x_0) || prior)                            the data's trace in the prior
    L_k  E KL(q(x_s | x_t, x_0) || p(x_s | x_t))              one term per step from t to the next node s
    L_0  E -log p(x_0 | x_t) at the last node t               reconstruction, by a decoder

p(x_s | x_t) has the mean of posterior.model_mean and a `Variance`. DDPM's bound is that of its chain on all its levels
(grids.levels). Sources: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, section 2; Sohl-Dickstein et al. 2015.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from score_sde.errors import require
from score_sde.objectives.denoising import LevelTimes, Reduction, Weighting, denoising, draw, perturb
from score_sde.rng import Purpose, child, normal
from score_sde.scores.parametrization import Levels
from score_sde.scores.posterior import Learned, Small, Variance, log_variances, model_mean, posterior_mean
from score_sde.sde import SDE, denoiser
from score_sde.typing import Array, Keys, ScoreFn, Time, expand, sum_per_example

Decoder = Callable[[Array, Array, Array], Array]
"""(x_0, mean, log variance, of one shape up to broadcasting) -> log p(x_0 | x_t) per element, in nats."""

Model = Callable[[Array, Array], tuple[Array, Array | None]]
"""(x [B, ...], t [B]) -> the score and, where the variance is learned, its fraction [B, ...] (posterior.Learned)."""


class Bound(NamedTuple):
    """The bound's terms per example [B], in nats; `steps` is their sum over the grid."""

    prior: Array
    steps: Array
    reconstruction: Array

    @property
    def total(self) -> Array:
        """The bound on -log p(x_0) [B], in nats."""
        return self.prior + self.steps + self.reconstruction


def bits_per_dim(nats: Array, x: Array) -> Array:
    """nats / (D ln 2): nats of any shape, D the elements of one example of x [B, ...]."""
    return nats / (math.prod(x.shape[1:]) * math.log(2))


def gaussian_decoder(x0: Array, mean: Array, log_variance: Array) -> Array:
    """log N(x_0; mean, variance), a density: for data that is continuous."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x0 - mean) ** 2 * jnp.exp(-log_variance))


@dataclasses.dataclass(frozen=True)
class Discretized:
    """The probability that N(mean, variance) gives to the bin of x_0, of equal bins centred from low to high.

    The outer bins reach to infinity. For 256 bins of 8-bit images this is Ho et al. 2020, eq. 13.
    """

    low: float = -1.0
    high: float = 1.0
    bins: int = 256

    def __call__(self, x0: Array, mean: Array, log_variance: Array) -> Array:
        half = (self.high - self.low) / (self.bins - 1) / 2
        scale, centred = jnp.exp(-0.5 * log_variance), x0 - mean
        upper = jnp.where(x0 > self.high - half, jnp.inf, (centred + half) * scale)
        lower = jnp.where(x0 < self.low + half, -jnp.inf, (centred - half) * scale)
        # In the left tail by symmetry, where the difference of the two keeps its digits.
        upper, lower = (jnp.where(centred > 0, a, b) for a, b in ((-lower, upper), (-upper, lower)))
        high = log_ndtr(jnp.minimum(upper, 40.0))
        low = jnp.where(lower == -jnp.inf, -jnp.inf, log_ndtr(jnp.maximum(lower, -1e4)))
        return high + jnp.log(-jnp.expm1(jnp.minimum(low - high, -1e-7)))


@dataclasses.dataclass(frozen=True)
class Categorical:
    """The probability of x_0 among so many equally spaced values: softmax over v of log N(v; mean, variance).

    x_0 is one of them. Every channel of every pixel counts once, where the published code counts those of grey images
    three times. Source: Kingma et al. 2021 (arXiv 2107.00630), eq. 7 and appendix C.
    """

    low: float = -1.0
    high: float = 1.0
    bins: int = 256

    def __call__(self, x0: Array, mean: Array, log_variance: Array) -> Array:
        values = self.low + (self.high - self.low) / (self.bins - 1) * jnp.arange(self.bins, dtype=mean.dtype)
        precision = jnp.exp(-jnp.broadcast_to(log_variance, mean.shape))[..., None]
        likely = lambda v: -0.5 * (mean[..., None] - v) ** 2 * precision
        return likely(x0[..., None])[..., 0] - jax.nn.logsumexp(likely(values.reshape((1,) * x0.ndim + (-1,))), -1)


def kl(mean: Array, log_variance: Array, other_mean: Array, other_log_variance: Array) -> Array:
    """KL(N(mean, variance) || N(other)), elementwise in nats."""
    difference = log_variance - other_log_variance
    return 0.5 * (jnp.exp(difference) - 1 - difference + (mean - other_mean) ** 2 * jnp.exp(-other_log_variance))


def prior_term(sde: SDE, x0: Array) -> Array:
    """L_T [B]."""
    mean, sigma = sde.marginal(x0, sde.T)
    log_variance, prior = 2 * jnp.log(sigma), 2 * jnp.log(jnp.asarray(sde.prior_std, x0.dtype))
    return sum_per_example(kl(mean, log_variance, jnp.zeros_like(x0), prior))


def step_term(sde: SDE, x0: Array, x: Array, s: Time, t: Time, score: Array, variance: Variance) -> Array:
    """L of the step from t to s [B] at x = x_t, given the score there; times [] or [B]."""
    small, large = (expand(v, x) for v in log_variances(sde, s, t))
    mean, model = posterior_mean(sde, x, x0, s, t), model_mean(sde, x, score, s, t)
    return sum_per_example(kl(mean, small, model, variance.log(x, jnp.asarray(t), small, large)))


def reconstruction_term(
    sde: SDE, x0: Array, x: Array, t: Time, above: Time, score: Array, variance: Variance, decoder: Decoder
) -> Array:
    """L_0 [B] at x = x_t, t the last node and `above` the one before it.

    The posterior's own variance is 0 in the last step; that of the step before stands in for it (Ho et al. 2020).
    """
    mean = denoiser(sde, lambda x, t: score)(x, t)
    small, large = log_variances(sde, t, above)[0], 2 * jnp.log(sde.sigma(t))
    log_variance = variance.log_last(x, jnp.asarray(t), expand(small, x), expand(large, x))
    return -sum_per_example(decoder(x0, mean, log_variance))


def variational_bound(
    keys: Keys, score: ScoreFn, sde: SDE, x0: Array, *, times: Array, variance: Variance, decoder: Decoder
) -> Bound:
    """Every term in nats, with one draw of x_t per node: times [K] decreasing from T; K evaluations in one scan.

    x0 [B, ...]. Raises UsageError for K < 2.
    """
    require(len(times) >= 2, f"times has {len(times)} nodes: the bound needs two or more")
    own = child(keys, Purpose.NOISE)
    noisy = lambda t, k: perturb(sde, x0, t, normal(child(own, k), x0.shape[1:], x0.dtype))[0]

    def step(total: Array, node: tuple[Array, Array, Array]) -> tuple[Array, None]:
        k, t, s = node
        x = noisy(t, k)
        return total + step_term(sde, x0, x, s, t, score(x, t), variance), None

    count = len(times) - 1
    steps, _ = jax.lax.scan(step, jnp.zeros(len(x0), x0.dtype), (jnp.arange(count), times[:-1], times[1:]))
    t, above = times[-1], times[-2]
    x = noisy(t, jnp.asarray(count))
    last = reconstruction_term(sde, x0, x, t, above, score(x, t), variance, decoder)
    return Bound(prior_term(sde, x0), steps, last)


@dataclasses.dataclass(frozen=True)
class BoundLoss:
    """The bound without L_T, which no network changes, by one random level per example: bits per dimension.

    levels are those of DDPM's chain. The model's variance is its own if it has one, or else the small one.
    """

    levels: Levels
    decoder: Decoder

    def __call__(self, keys: Keys, model: Model, sde: SDE, x0: Array, u: Array | None = None) -> Array:
        """The loss of every example [B], t and z from its own key (denoising.draw)."""
        x, t, _, _ = self.noisy(keys, sde, x0, u)
        return self.at(sde, x0, x, t, *model(x, t))

    def noisy(self, keys: Keys, sde: SDE, x0: Array, u: Array | None) -> tuple[Array, Array, Array, Array]:
        """x_t, t [B], sigma broadcasting against x_t, and z."""
        t, _, z = draw(keys, sde, x0, LevelTimes(self.levels), u)
        x, sigma = perturb(sde, x0, t, z)
        return x, t, sigma, z

    def at(self, sde: SDE, x0: Array, x: Array, t: Array, score: Array, fraction: Array | None) -> Array:
        """N times the term [B] of the level t at x = x_t, given the model's values there: on average the loss."""
        variance = Small() if fraction is None else Learned(lambda x, t: fraction)
        label = self.levels(sde, t)
        last = label == 0
        below, above = (self.levels.time(sde, i) for i in (jnp.maximum(label - 1, 0), label + 1))
        # The last level has no step below it: that of the level above stands there, finite and not used.
        step = step_term(sde, x0, x, below, jnp.where(last, above, t), score, variance)
        reconstruction = reconstruction_term(sde, x0, x, t, above, score, variance, self.decoder)
        return self.levels.num_scales * bits_per_dim(jnp.where(last, reconstruction, step), x0)


@dataclasses.dataclass(frozen=True)
class HybridLoss:
    """L_simple + weight L_vlb (Nichol & Dhariwal 2021, eq. 16), with one network evaluation.

    L_simple is the denoising loss; L_vlb, the BoundLoss, trains the variance alone, the score being a constant in it.
    """

    bound: BoundLoss
    weighting: Weighting
    reduction: Reduction
    weight: float = 1e-3

    def __call__(self, keys: Keys, model: Model, sde: SDE, x0: Array, u: Array | None = None) -> Array:
        """The loss of every example [B], t and z from its own key (denoising.draw)."""
        x, t, sigma, z = self.bound.noisy(keys, sde, x0, u)
        score, fraction = model(x, t)
        squares = denoising(None, lambda x, t: score, x, t, sigma, z)
        vlb = self.bound.at(sde, x0, x, t, jax.lax.stop_gradient(score), fraction)
        return self.weighting(sde, t) * self.reduction(squares) + self.weight * vlb
