"""The cosine schedule in continuous time, whose log-SNR is bounded at both ends (Salimans & Ho 2022)."""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.sde.base import SDE
from score_sde.typing import Array, Time, expand


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cosine(SDE):
    """Variance preserving, alpha = cos(theta), sigma = sin(theta), theta rising evenly over [0, T] with T = 1.

    Its ends are those of the log-SNR l = -2 log tan(theta): log_snr_max at t = 0, where sigma is not quite 0, and
    log_snr_min at t = 1. With theta = b + a t the SDE is dx = -a tan(theta) x dt + sqrt(2 a tan(theta)) dw.
    Source: Nichol & Dhariwal 2021, section 3.2, in continuous time; Salimans & Ho 2022 (arXiv 2202.00512).
    """

    log_snr_max: float = 20.0
    log_snr_min: float = -20.0
    T: float = 1.0

    @property
    def _speed(self) -> Array:
        """a = d theta / dt."""
        return jnp.pi / 2 - _angle(self.log_snr_max) - _angle(-self.log_snr_min)

    def _angles(self, t: Time) -> tuple[Array, Array]:
        """theta and pi / 2 - theta, the latter reckoned from the end, where it is small."""
        t = jnp.asarray(t)
        return _angle(self.log_snr_max) + self._speed * t, _angle(-self.log_snr_min) + self._speed * (1 - t)

    def _tan(self, t: Time) -> Array:
        return self.sigma(t) / self.alpha(t)

    def drift(self, x: Array, t: Time) -> Array:
        return -expand(self._speed * self._tan(t), x) * x

    def diffusion(self, t: Time) -> Array:
        return jnp.sqrt(2 * self._speed * self._tan(t))

    def alpha(self, t: Time) -> Array:
        return jnp.sin(self._angles(t)[1])

    def sigma(self, t: Time) -> Array:
        return jnp.sin(self._angles(t)[0])

    def log_snr(self, t: Time) -> Array:
        return -2 * jnp.log(self._tan(t))

    def time(self, log_snr: Time) -> Array:
        log_snr = jnp.asarray(log_snr)
        # From the nearer end, whose angle is the smaller one.
        early = (_angle(log_snr) - _angle(self.log_snr_max)) / self._speed
        late = 1 - (_angle(-log_snr) - _angle(-self.log_snr_min)) / self._speed
        return jnp.where(log_snr > 0, early, late)

    @property
    def prior_std(self) -> Time:
        return 1.0


def _angle(log_snr: Time) -> Array:
    """arctan(e^{-l / 2})."""
    return jnp.arctan(jnp.exp(-0.5 * jnp.asarray(log_snr, float)))


def cosine(log_snr_max: float = 20.0, log_snr_min: float = -20.0) -> Cosine:
    """A checked Cosine; UsageError unless log_snr_min < log_snr_max."""
    require(
        log_snr_min < log_snr_max,
        f"log_snr_min={log_snr_min} must be below log_snr_max={log_snr_max}: Salimans & Ho take -20 and 20",
    )
    return Cosine(log_snr_max, log_snr_min)
