"""Scores of the posterior given a measurement: what the methods for it share.

They estimate g = grad_x log p_t(y | x_t) through the denoiser D(x, t) = E[x_0 | x_t] and add it to the score. Said of
the denoiser, D_y = D + (sigma^2 / alpha) g; with the Jacobian J of D in x, (sigma^2 / alpha) J is Cov[x_0 | x_t]
(Efron 2011), and with the exact covariance C of Gaussian data D_y = D + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A D).
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement, shortened, spectrum_of
from score_sde.sde import SDE, denoised
from score_sde.sde.analytic import noised_variance
from score_sde.typing import Array, ScoreFn, Time, expand


@dataclasses.dataclass(frozen=True, kw_only=True)
class PosteriorScore(abc.ABC):
    """ScoreFn -> ScoreFn: the score of p_t(x | y), estimated; a subclass writes `shift` alone.

    limit: D_y - D is made no longer than so many times sigma / alpha sqrt(D numbers), as far as x_0 is from D; None for
    the method as it stands, which is exact where it is for every x and y. A trained network's Jacobian is not
    symmetric: what is solved with it can pass all bounds, and is to have one.
    reverse: whether it differentiates the score in reverse mode (else forwards, or not at all).
    """

    limit: float | None = None

    reverse: ClassVar[bool] = True

    def __call__(self, score: ScoreFn, sde: SDE, measurement: Measurement) -> ScoreFn:
        """The score of x_t given the measurement, (x [B, ...], t [] or [B]) -> [B, ...]."""

        def guided(x: Array, t: Array) -> Array:
            t = jnp.asarray(t)
            own, shift = self.shift(score, sde, measurement, x, t)
            if self.limit is not None:
                shift = shortened(shift, reach(sde, t, x, self.limit))
            return own + slope(sde, t, shift)

        return guided

    @abc.abstractmethod
    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        """The score itself and D_y - D, both [B, ...]."""


def slope(sde: SDE, t: Time, shift: Array) -> Array:
    """g of D_y - D: alpha / sigma^2 times the shift [B, ...]; of (sigma^2 / alpha) J^T v it is J^T v."""
    return expand(sde.alpha(t) / sde.sigma(t) ** 2, shift) * shift


def linearised(score: ScoreFn, sde: SDE, x: Array, t: Array) -> tuple[Array, Array, Callable[[Array], Array]]:
    """The score and the denoiser D at x, and v -> (sigma^2 / alpha) J^T v, which is Cov[x_0 | x_t] v for an exact D."""

    def of(x: Array) -> tuple[Array, Array]:
        own = score(x, t)
        return denoised(sde, x, own, t), own

    D, back, own = jax.vjp(of, x, has_aux=True)
    factor = sde.sigma(t) ** 2 / sde.alpha(t)
    return own, D, lambda v: expand(factor, x) * back(v)[0]


def plain(score: ScoreFn, sde: SDE, x: Array, t: Array) -> tuple[Array, Array]:
    """The score and the denoiser at x, of which no derivative is asked."""
    own = score(x, t)
    return own, denoised(sde, x, own, t)


def reach(sde: SDE, t: Time, x: Array, limit: float) -> Array:
    """limit sigma / alpha sqrt(D numbers) [1] or [B]: a multiple of how far x_0 can be from D of x [B, ...]."""
    return jnp.atleast_1d(limit * sde.sigma(t) / sde.alpha(t)) * x[0].size ** 0.5


def solve_isotropic(measurement: Measurement, e: Array, variance: Time, noise: Time) -> Array:
    """A^T (variance A A^T + noise I)^{-1} e [B, ...], by A's singular values; variance and noise [] or [B].

    Directions that A does not see have no part in it, nor those of noise 0 and variance 0. UsageError where A has no
    singular values at hand.
    """
    spectrum = spectrum_of(measurement)
    d = spectrum.values[None]
    below = jnp.atleast_1d(variance)[:, None] * d**2 + jnp.atleast_1d(noise)[:, None]
    weight = jnp.where((d > 0) & (below > 0), d / jnp.where(below > 0, below, 1), 0)
    return spectrum.from_v(weight * spectrum.to_u(e))


def log_potential(sde: SDE, measurement: Measurement, D: Array, t: Array, variance: float = 1.0) -> Array:
    """log N(y; A D, r^2 A A^T + sigma_y^2 I) [B] in nats, r^2 the noised variance of data of this variance.

    What PiGDM takes p(y | x_t) for, by A's singular values, over what A sees; exact as t goes to 0.
    """
    spectrum = spectrum_of(measurement)
    d = spectrum.values[None]
    below = jnp.atleast_1d(noised_variance(sde, t, variance))[:, None] * d**2 + measurement.sigma_y**2
    e, below = spectrum.to_u(measurement.residual(D)), jnp.where(d > 0, below, 1)
    return -0.5 * jnp.sum(jnp.where(d > 0, e**2 / below + jnp.log(2 * jnp.pi * below), 0), 1)
