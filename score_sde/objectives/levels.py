"""Which pairs of times s < t of a trajectory a consistency model is trained at.

Noise levels are r = sigma / alpha, which under EDM's SDE is t, so that every linear SDE is trained alike.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from score_sde.objectives.denoising import Times
from score_sde.sde import SDE
from score_sde.typing import Array


def noise_level(sde: SDE, t: Array) -> Array:
    """r = sigma / alpha at t, shape of t."""
    return jnp.exp(-0.5 * sde.log_snr(t))


def time_of(sde: SDE, r: Array) -> Array:
    """The time in (0, T] of a noise level r = sigma / alpha, shape of r."""
    return jnp.minimum(sde.time(-2 * jnp.log(r)), sde.T)


class Levels(abc.ABC):
    """Which two times of a trajectory are compared."""

    @abc.abstractmethod
    def __call__(self, sde: SDE, u: Array, steps: Array) -> tuple[Array, Array]:
        """t and s < t, both [B], of the quantiles u [B] in [0, 1) when a trajectory has so many steps M []."""


@dataclasses.dataclass(frozen=True)
class Neighbours(Levels):
    """Neighbours among M + 1 levels that are even in r^(1 / rho), from t_min to T, each pair alike often.

    Source: Song et al. 2023 (arXiv 2303.01469), algorithms 2 and 3; the levels: Karras et al. 2022, eq. 5.
    """

    t_min: float
    rho: float = 7.0

    def __call__(self, sde: SDE, u: Array, steps: Array) -> tuple[Array, Array]:
        n = jnp.minimum(jnp.floor(u * steps), steps - 1)
        return self.time(sde, n + 1, steps), self.time(sde, n, steps)

    def time(self, sde: SDE, n: Array, steps: Array) -> Array:
        """The time of level n = 0 .. M, shape of n."""
        low, high = self._ends(sde, n)
        return time_of(sde, (low + n / steps * (high - low)) ** self.rho)

    def number(self, sde: SDE, r: Array, steps: Array) -> Array:
        """The number of the highest level not above r, at most M - 1, shape of r."""
        low, high = self._ends(sde, r)
        return jnp.clip(jnp.floor((r ** (1 / self.rho) - low) / (high - low) * steps), 0, steps - 1)

    def _ends(self, sde: SDE, like: Array) -> tuple[Array, Array]:
        """r^(1 / rho) at t_min and T."""
        low, high = (noise_level(sde, jnp.asarray(t, like.dtype)) ** (1 / self.rho) for t in (self.t_min, sde.T))
        return low, high


@dataclasses.dataclass(frozen=True)
class LogNormalNeighbours(Neighbours):
    """The same levels; pair n as often as ln r ~ N(p_mean, p_std^2), cut off at both ends, lies between the two.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.5: p_mean -1.1, p_std 2.
    """

    p_mean: float = -1.1
    p_std: float = 2.0

    def __call__(self, sde: SDE, u: Array, steps: Array) -> tuple[Array, Array]:
        ends = (jnp.log(noise_level(sde, jnp.asarray(t, u.dtype))) for t in (self.t_min, sde.T))
        low, high = (ndtr((end - self.p_mean) / self.p_std) for end in ends)
        r = jnp.exp(self.p_mean + self.p_std * ndtri(low + u * (high - low)))
        n = self.number(sde, r, steps)
        return self.time(sde, n + 1, steps), self.time(sde, n, steps)


@dataclasses.dataclass(frozen=True)
class Share(Levels):
    """t of a law, and r_s = r_t (1 - (1 + expansion sigmoid(-r_t)) / M), at least that of t_min.

    expansion: of the gap at little noise; 0 for one share everywhere. M is q^(stage + 1) of the source's. Source: Geng
    et al. 2024 (arXiv 2406.14548), section 4, and their code, whose expansion is 8 and q 2.
    """

    times: Times
    t_min: float
    expansion: float = 8.0

    def __call__(self, sde: SDE, u: Array, steps: Array) -> tuple[Array, Array]:
        t = jnp.maximum(self.times(sde, u)[0], self.t_min)
        r = noise_level(sde, t)
        below = r * (1 - (1 + self.expansion * jax.nn.sigmoid(-r)) / steps)
        least = noise_level(sde, jnp.asarray(self.t_min, r.dtype))
        return t, jnp.minimum(time_of(sde, jnp.maximum(below, least)), t)
