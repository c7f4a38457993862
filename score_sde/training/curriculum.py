"""How many steps a trajectory is cut into, as a function of the updates made: curricula of consistency models."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.typing import Array

Curriculum = Callable[[Array], Array]
"""Updates made, int [] or [K] -> the number of steps M, float of the same shape: of M + 1 noise levels."""


@dataclasses.dataclass(frozen=True)
class Unchanged:
    """M = last, as in consistency distillation (Song et al. 2023)."""

    last: int

    def __call__(self, updates: Array) -> Array:
        return jnp.full(jnp.shape(updates), self.last, float)


@dataclasses.dataclass(frozen=True)
class Root:
    """M(k) = ceil(sqrt(k / K ((last + 1)^2 - first^2) + first^2) - 1), K updates in all.

    At k = 0 it is first - 1, behind it at least first. Source: Song et al. 2023 (arXiv 2303.01469), appendix C.
    """

    first: int
    last: int
    updates: int

    def __call__(self, updates: Array) -> Array:
        share = jnp.asarray(updates, float) / self.updates
        square = share * ((self.last + 1) ** 2 - self.first**2) + self.first**2
        return jnp.maximum(jnp.ceil(jnp.sqrt(square) - 1), 1)


@dataclasses.dataclass(frozen=True)
class Doubling:
    """M(k) = min(first 2^floor(k / K'), last), K' = floor(K / (log2 floor(last / first) + 1)), K updates in all.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.4.
    """

    first: int
    last: int
    updates: int

    def __call__(self, updates: Array) -> Array:
        each = max(math.floor(self.updates / (math.log2(self.last // self.first) + 1)), 1)
        return jnp.minimum(self.first * 2 ** (updates // each), self.last).astype(float)
