"""Continuous denoising score matching for any linear SDE, score parametrization, weighting and law of t.

With x_t = alpha x_0 + sigma z the residual is r = sigma score(x_t, t) + z, and every loss here is
weight(t) reduce(r^2): "simple" weights by 1 (lambda = sigma^2 on the score), "likelihood" by g^2 / sigma^2
(lambda = g^2), which makes the loss a bound on the negative log-likelihood (Song et al. 2021b, arXiv 2101.09258).
"""

import abc
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal, uniform
from score_sde.sde import SDE
from score_sde.typing import Array, Keys, ScoreFn, expand, sum_per_example

Weighting = Callable[[SDE, Array], Array]
"""(sde, t [B]) -> the weight [B] of the squared residual."""

Reduction = Callable[[Array], Array]
"""Squared residuals [B, ...] -> [B]."""


def simple(sde: SDE, t: Array) -> Array:
    """lambda = sigma^2: weight 1 on the noise residual (Song et al. 2021, section 3.3)."""
    return jnp.ones_like(t)


def likelihood(sde: SDE, t: Array) -> Array:
    """lambda = g^2: weight g^2 / sigma^2 (Song et al. 2021b, theorem 1)."""
    return (sde.diffusion(t) / sde.sigma(t)) ** 2


def mean(squares: Array) -> Array:
    """Mean over the elements of an example."""
    return jnp.mean(squares, axis=tuple(range(1, squares.ndim)))


def half_sum(squares: Array) -> Array:
    """Half the sum over the elements of an example, the reference's reduce_mean=False."""
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


def denoising_loss_at(
    score: ScoreFn, sde: SDE, x0: Array, t: Array, z: Array, *, weighting: Weighting, reduction: Reduction = mean
) -> Array:
    """The loss of every example at given times t [B] and noise z [B, ...]: weight(t) reduce((sigma s + z)^2) [B]."""
    centre, sigma = sde.marginal(x0, t)
    sigma = expand(sigma, x0)
    residual = sigma * score(centre + sigma * z, t) + z
    return weighting(sde, t) * reduction(residual**2)


def denoising_loss(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x0: Array,
    *,
    weighting: Weighting,
    times: Times,
    reduction: Reduction = mean,
    u: Array | None = None,
) -> Array:
    """The denoising score matching loss of every example [B], t and z drawn from the example's own key.

    loss_b = E weight(t) reduce((sigma(t) score(x_t, t) + z)^2), x_t = alpha x_0 + sigma z (Song et al. 2021, eq. 7).
    keys [B]; x0 [B, ...]; u [B] in [0, 1) fixes the quantiles of t (rng.low_discrepancy gives stratified ones),
    None draws them independently.
    """
    if u is None:
        u = uniform(child(keys, Purpose.TIME))
    t, ratio = times(sde, u)
    z = normal(child(keys, Purpose.NOISE), x0.shape[1:], x0.dtype)
    return ratio * denoising_loss_at(score, sde, x0, t, z, weighting=weighting, reduction=reduction)
