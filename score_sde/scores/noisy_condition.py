"""Noise-conditioning augmentation: the picture that a network is shown is noised, and the network told how much.

Trained at all levels, it takes at sampling what an earlier stage of a cascade drew, at a level that hides its flaws.
The optimum is known: the posterior given c / alpha = image + sigma / alpha n (sde.conditioning.condition_noised).
Source: Ho et al. 2022 (cascades), section 4.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from score_sde.errors import require
from score_sde.rng import Purpose, child, normal, uniform
from score_sde.sde import SDE, noised
from score_sde.typing import Array, Keys, Time

PURPOSE = Purpose.CONDITION


@dataclasses.dataclass(frozen=True)
class NoisyCondition:
    """c -> alpha(a) c + sigma(a) n of condition["image"] [B, h, w, c], at the level a / T told as condition["level"].

    sde: whose alpha and sigma; its time is the level. low, high: the levels of training, uniform between these times.
    """

    sde: SDE
    low: float = 0.0
    high: float = 1.0

    def train(self, keys: Keys, condition: Mapping[str, Array]) -> dict[str, Array]:
        """The condition with its image noised at a level of every example's own [B]."""
        u = uniform(child(child(keys, PURPOSE), Purpose.TIME))
        return self.at(keys, condition, self.low + (self.high - self.low) * u)

    def at(self, keys: Keys, condition: Mapping[str, Array], level: Time) -> dict[str, Array]:
        """The condition with its image noised at a level [] or [B], as at sampling. UsageError for one out of range."""
        if isinstance(level, float | int):
            require(
                self.low <= level <= self.high,
                f"the level of the condition's noise is {level}: trained were {self.low} to {self.high}",
            )
        image = condition["image"]
        z = normal(child(child(keys, PURPOSE), Purpose.NOISE), image.shape[1:], image.dtype)
        return self.given(condition, level, z)

    def given(self, condition: Mapping[str, Array], level: Time, z: Array) -> dict[str, Array]:
        """The same with the noise z [B, h, w, c] given."""
        image = condition["image"]
        times = jnp.broadcast_to(jnp.asarray(level, image.dtype), image.shape[:1])
        return {**condition, "image": noised(self.sde, image, times, z), "level": times / self.sde.T}
