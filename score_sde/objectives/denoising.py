"""Denoising score matching for any linear SDE, score parametrization, weighting and law of t.

With x_t = alpha x_0 + sigma z the residual is r = sigma score(x_t, t) + z, and every loss here is
weight(t) reduce(r^2): "simple" weights by 1 (lambda = sigma^2 on the score), "likelihood" by g^2 / sigma^2
(lambda = g^2), which makes the loss a bound on the negative log-likelihood (Song et al. 2021b, arXiv 2101.09258), and
"edm" makes the loss of an untrained network the same at every noise level (Karras et al. 2022, arXiv 2206.00364). The
others make it the plain error of what a network predicts.
The other objectives of the literature put something else in the place of r^2 (score_matching.py).
"""

import abc
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax.scipy.special import ndtri

from score_sde.rng import Purpose, child, normal, uniform
from score_sde.scores.parametrization import Levels
from score_sde.scores.subspace import Subspace, within
from score_sde.sde import SDE, one_minus_exp
from score_sde.typing import Array, Keys, ScoreFn, Time, expand, sum_per_example

Weighting = Callable[[SDE, Array], Array]
"""(sde, t [B]) -> the weight [B] of the squared residual."""

Reduction = Callable[..., Array]
"""(squared residuals [B, ...], their number where some are no part of the example [B] or None) -> [B]."""

Objective = Callable[[Keys, ScoreFn, Array, Array, Array, Array], Array]
"""(keys [B], score, x_t [B, ...], t [B], sigma broadcasting against x_t, z [B, ...]) -> squared residuals [B, ...]."""


def simple(sde: SDE, t: Array) -> Array:
    """lambda = sigma^2: weight 1 on the noise residual (Song et al. 2021, section 3.3)."""
    return jnp.ones_like(t)


def likelihood(sde: SDE, t: Array) -> Array:
    """lambda = g^2: weight g^2 / sigma^2 (Song et al. 2021b, theorem 1)."""
    return (sde.diffusion(t) / sde.sigma(t)) ** 2


def velocity(sde: SDE, t: Array) -> Array:
    """1 + sigma^2 / alpha^2: the error of the velocity prediction v (Salimans & Ho 2022, section 4)."""
    return 1 + jnp.exp(-sde.log_snr(t))


def difference(sde: SDE, t: Array) -> Array:
    """(1 + sigma / alpha)^2: the error of eps - x_0, flow matching's own loss under sde.Straight (Liu et al. 2022)."""
    return (1 + jnp.exp(-0.5 * sde.log_snr(t))) ** 2


def truncated_snr(sde: SDE, t: Array) -> Array:
    """max(1, sigma^2 / alpha^2): max(SNR, 1) on the error of x_0 (Salimans & Ho 2022, section 4)."""
    return jnp.maximum(1, jnp.exp(-sde.log_snr(t)))


def denoiser(sde: SDE, t: Array) -> Array:
    """sigma^2 / alpha^2: the error of x_0 itself (Song et al. 2023's "uniform")."""
    return jnp.exp(-sde.log_snr(t))


@dataclasses.dataclass(frozen=True)
class Steps:
    """N (SNR(s) / SNR(t) - 1), s = t - T / N: likelihood's weight for N equal steps, and T times that in the limit.

    With half the sum of squares it is N times what an ancestral step from t to s costs in nats. Source: Kingma et al.
    2021 (arXiv 2107.00630), eq. 14.
    """

    num_scales: int

    def __call__(self, sde: SDE, t: Array) -> Array:
        # t is a multiple of T / N, of which none may come out below 0.
        rise = sde.log_snr(jnp.maximum(t - sde.T / self.num_scales, 0)) - sde.log_snr(t)
        return self.num_scales * one_minus_exp(rise) * jnp.exp(rise)


@dataclasses.dataclass(frozen=True)
class EDM:
    """Weight (r^2 + s^2) / s^2, r = sigma / alpha, s = sigma_data: the error of x_0 over EDM's c_out^2.

    The denoised image's error is D - x_0 = r (sigma score + z) under every linear SDE, and Karras et al. 2022 (table 1)
    weight its square by 1 / c_out^2 = (r^2 + s^2) / (r s)^2.
    """

    sigma_data: float = 0.5

    def __call__(self, sde: SDE, t: Array) -> Array:
        return 1 + jnp.exp(-sde.log_snr(t)) / self.sigma_data**2


def mean(squares: Array, dimension: Array | None = None) -> Array:
    """Mean over the elements of an example, or their sum over its dimension [B] where that is smaller."""
    if dimension is None:
        return jnp.mean(squares, axis=tuple(range(1, squares.ndim)))
    return sum_per_example(squares) / jnp.maximum(dimension.astype(squares.dtype), 1)


def half_sum(squares: Array, dimension: Array | None = None) -> Array:
    """Half the sum over the elements of an example, the reference's reduce_mean=False; whatever its dimension."""
    del dimension
    return 0.5 * sum_per_example(squares)


class Times(abc.ABC):
    """A law of t on [t_min, T], given by its quantile function so that u may be stratified."""

    @abc.abstractmethod
    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        """u in [0, 1) [B] -> times t [B] and the uniform density over this law's density at t [B].

        Multiplied by that ratio, a loss has the same expectation under every law.
        """


@dataclasses.dataclass(frozen=True)
class UniformTimes(Times):
    """t uniform on [t_min, T]."""

    t_min: float = 1e-5

    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        return self.t_min + u * (sde.T - self.t_min), jnp.ones_like(u)


@dataclasses.dataclass(frozen=True)
class LikelihoodTimes(Times):
    """Importance sampling for the likelihood weighting: density proportional to g^2 / sigma^2, in closed form.

    Under every linear SDE g^2 / sigma^2 = -d log_snr / dt, so this law is uniform in the log-SNR and its quantile
    function is sde.time. The weighted loss then has the same factor at every t. Source of the idea: Song et
    al. 2021b, section 4.2 (there for VP alone).
    """

    t_min: float = 1e-5

    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        first, last = sde.log_snr(jnp.asarray(self.t_min, u.dtype)), sde.log_snr(jnp.asarray(sde.T, u.dtype))
        t = jnp.clip(sde.time(first + u * (last - first)), self.t_min, sde.T)
        return t, (first - last) / ((sde.T - self.t_min) * likelihood(sde, t))


@dataclasses.dataclass(frozen=True)
class LogNormalTimes(Times):
    """ln(sigma / alpha) ~ N(p_mean, p_std^2), cut off where t would leave [0, T].

    Its ratio of densities is 1 by decree: the law is part of EDM's weighting of noise levels, not a correction of
    another law's variance. Source: Karras et al. 2022, table 1.
    """

    p_mean: float = -1.2
    p_std: float = 1.2

    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        # u = 0 occurs, of 2^23 or 2^24 equally likely numbers: half of the least other one stands for it.
        quantile = ndtri(jnp.maximum(u, 2.0**-25))
        t = sde.time(-2 * (self.p_mean + self.p_std * quantile))
        return jnp.clip(t, 0, sde.T), jnp.ones_like(u)


@dataclasses.dataclass(frozen=True)
class LevelTimes(Times):
    """Each of N discrete levels with equal probability, as SMLD and DDPM are trained."""

    levels: Levels

    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        return self.levels.time(sde, jnp.floor(u * self.levels.num_scales)), jnp.ones_like(u)


@dataclasses.dataclass(frozen=True)
class BetweenLevels(Times):
    """A step n of DDPM's chain evenly, then alpha(t) evenly between those of its two ends, t not below t_min.

    The network learns every alpha, and so samples by any other chain. Source: Chen et al. 2021 (WaveGrad), section 2.3.
    """

    t_min: float = 1e-5

    def __call__(self, sde: SDE, u: Array) -> tuple[Array, Array]:
        place = u * sde.num_scales  # pyright: ignore[reportAttributeAccessIssue]
        step = jnp.floor(place)
        t = sde.between(step.astype(jnp.int32), place - step)  # pyright: ignore[reportAttributeAccessIssue]
        return jnp.maximum(t, self.t_min), jnp.ones_like(u)


def draw(keys: Keys, sde: SDE, x0: Array, times: Times, u: Array | None = None) -> tuple[Array, Array, Array]:
    """Times t [B], their ratio of densities [B] and noise z [B, ...], from the example's own key each.

    u [B] in [0, 1) fixes the quantiles of t (rng.low_discrepancy gives stratified ones), None draws them independently.
    """
    t, ratio = times(sde, uniform(child(keys, Purpose.TIME)) if u is None else u)
    return t, ratio, normal(child(keys, Purpose.NOISE), x0.shape[1:], x0.dtype)


def perturb(sde: SDE, x0: Array, t: Time, z: Array) -> tuple[Array, Array]:
    """x_t = alpha x_0 + sigma z [B, ...], and sigma broadcasting against it."""
    mean, sigma = sde.marginal(x0, t)
    sigma = expand(sigma, x0)
    return mean + sigma * z, sigma


def denoising(keys: Keys | None, score: ScoreFn, x: Array, t: Array, sigma: Array, z: Array) -> Array:
    """(sigma score(x_t, t) + z)^2, elementwise (Vincent 2011)."""
    return (sigma * score(x, t) + z) ** 2


def absolute(keys: Keys | None, score: ScoreFn, x: Array, t: Array, sigma: Array, z: Array) -> Array:
    """|sigma score(x_t, t) + z|, elementwise: least at the median of z given x_t (Chen et al. 2021, WaveGrad)."""
    return jnp.abs(sigma * score(x, t) + z)


def denoising_loss_at(
    score: ScoreFn, sde: SDE, x0: Array, t: Array, z: Array, *, weighting: Weighting, reduction: Reduction = mean
) -> Array:
    """The loss of every example at given times t [B] and noise z [B, ...]: weight(t) reduce((sigma s + z)^2) [B]."""
    x, sigma = perturb(sde, x0, t, z)
    return weighting(sde, t) * reduction(denoising(None, score, x, t, sigma, z))


def denoising_loss(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x0: Array,
    *,
    weighting: Weighting,
    times: Times,
    reduction: Reduction = mean,
    objective: Objective = denoising,
    u: Array | None = None,
    space: Subspace | None = None,
) -> Array:
    """The score matching loss of every example [B], t, z and projections drawn from the example's own key.

    loss_b = E weight(t) reduce(r^2), r = sigma(t) score(x_t, t) + z, x_t = alpha x_0 + sigma z (Song et al. 2021,
    eq. 7), or with another objective what it puts in the place of r^2. keys [B]; x0 [B, ...]; u as in `draw`. space:
    where x0 lies, which noise and score are projected on; None for everywhere.
    """
    t, ratio, z = draw(keys, sde, x0, times, u)
    if space is not None:
        z, score = space.project(z), within(score, space)
    x, sigma = perturb(sde, x0, t, z)
    squares = objective(keys, score, x, t, sigma, z)
    return ratio * weighting(sde, t) * reduction(squares, None if space is None else space.dimension)
