"""Replacement: after every step the part of x that is measured is put in the place of the model's."""

import dataclasses

import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement, spectrum_of
from score_sde.rng import normal
from score_sde.sde import SDE
from score_sde.typing import Array, Keys


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A constraint for `sample`: in A's coordinates x_s is alpha y / d + sqrt(sigma^2 - alpha^2 sigma_y^2 / d^2) z.

    Where that is no number, below sigma = alpha sigma_y / d, the model is left alone. aware: of sigma_y; without it, as
    published, the measurement is taken for exact, and sigma z is added: then samples show its noise, and that divided
    by the smallest singular values, of which those below `cut` of the largest count as 0. The known and the unknown
    part come to agree through the score alone: it is no exact posterior however many steps there are. Of a mask it is
    Song et al. 2021's inpainting, of grey values their colourisation, with noise of the level x is at. share: the part
    of the way from the model's to the measured, lambda of Song et al. 2022 (medical imaging).
    """

    sde: SDE
    measurement: Measurement
    aware: bool = True
    cut: float = 1e-3
    share: float = 1.0

    def __call__(self, keys: Keys, x: Array, s: Array) -> Array:
        """x [B, ...] at time s with what is measured in its place, every example by its own key."""
        return self.given(x, s, normal(keys, x.shape[1:], x.dtype))

    def given(self, x: Array, s: Array, z: Array) -> Array:
        """The constraint on x [B, ...] at time s [], given its noise z [B, ...]."""
        spectrum, alpha, sigma = spectrum_of(self.measurement), self.sde.alpha(s), self.sde.sigma(s)
        d = spectrum.values
        seen = d > self.cut * d.max()
        inverse = jnp.where(seen, 1 / jnp.where(seen, d, 1), 0)
        noise = alpha * self.measurement.sigma_y * inverse if self.aware else jnp.zeros_like(inverse)
        left = jnp.sqrt(jnp.maximum(sigma**2 - noise**2, 0))
        known = alpha * inverse[None] * spectrum.to_u(self.measurement.y) + left[None] * spectrum.to_v(z)
        taken, own = jnp.broadcast_to((seen & (sigma >= noise))[None], known.shape), spectrum.to_v(x)
        known = known if self.share == 1 else own + self.share * (known - own)
        return spectrum.from_v(jnp.where(taken, known, own))
