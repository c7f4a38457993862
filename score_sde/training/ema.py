"""The exponential moving average of the parameters, which is what is sampled and evaluated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from score_sde.typing import Array


@dataclasses.dataclass(frozen=True)
class EMA:
    """e <- r e + (1 - r) p in float32, started at the initial parameters.

    r is `decay`, or with warm-up min(decay, (1 + k) / (10 + k)) at the k-th update, k = 1, 2, ..., which forgets the
    start early (the official PyTorch code's rule).
    """

    decay: float = 0.9999
    warmup: bool = False

    def rate(self, step: Array) -> Array:
        """r of the update that follows `step` updates."""
        k = jnp.asarray(step, jnp.float32) + 1
        return jnp.minimum(self.decay, (1 + k) / (10 + k)) if self.warmup else jnp.float32(self.decay)

    def update(self, average: Any, params: Any, step: Array) -> Any:
        """The average after the parameters of one more update."""
        r = self.rate(step)
        return jax.tree.map(lambda e, p: r * e + (1 - r) * p, average, params)
