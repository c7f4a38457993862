"""Exponential moving averages of the parameters, which are what is sampled and evaluated: e <- e + w (p - e).

The weight w of the new parameters is computed as such, and not as 1 - r from the rate r of forgetting: in float32 that
difference has 6e-8 for its least unit, and late in training w is smaller.
"""

import abc
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.training.curriculum import Curriculum
from score_sde.training.posthoc import std_to_gamma
from score_sde.typing import Array


class Seen(NamedTuple):
    """How far training is at an update.

    updates: those made before this one, int32 []. images: images seen after this update, float32 []. batch: images of
    this update.
    """

    updates: Array
    images: Array
    batch: float | Array


def seen_after(updates: Array, position: Array, axis_name: str | None = None) -> Seen:
    """What has been seen after the update with the examples at these positions, two words each, [..., 2].

    Positions count from 0, so the largest one plus 1 is the number of images seen; a named axis is that of the devices
    which share the batch.
    """
    high, low = (position[..., i].astype(jnp.float32) for i in (0, 1))
    images, batch = jnp.max(high * 2.0**32 + low) + 1, float(position[..., 0].size)
    if axis_name is not None:
        images, batch = jax.lax.pmax(images, axis_name), batch * jax.lax.axis_size(axis_name)
    return Seen(updates, images, batch)


class Average(abc.ABC):
    """How fast an average forgets."""

    @abc.abstractmethod
    def weight(self, seen: Seen) -> Array:
        """w in [0, 1] of e <- e + w (p - e) at this update, shape and dtype of seen.images."""

    def kept(self, first: int, last: int, batch: float) -> float:
        """What is left after `last` updates of the average's value after `first`: the product of 1 - w between them.

        All updates are of `batch` images. From first = 0 it is the share of the initial parameters.
        """
        k = np.arange(first, last)
        w = np.asarray(self.weight(Seen(jnp.asarray(k), jnp.asarray((k + 1) * batch, jnp.float32), batch)), np.float64)
        return float(np.prod(1 - w))


@dataclasses.dataclass(frozen=True)
class Constant(Average):
    """w = 1 - decay."""

    decay: float

    def weight(self, seen: Seen) -> Array:
        return jnp.full_like(seen.images, 1 - self.decay)

    def kept(self, first: int, last: int, batch: float) -> float:
        return self.decay ** (last - first)


@dataclasses.dataclass(frozen=True)
class WarmedUp(Average):
    """w = 1 - min(decay, (1 + k) / (10 + k)) at the k-th update, k = 1, 2, ...: the official PyTorch code's rule.

    It forgets the initial parameters early.
    """

    decay: float

    def weight(self, seen: Seen) -> Array:
        k = jnp.asarray(seen.updates, seen.images.dtype) + 1
        return jnp.maximum(1 - self.decay, 9 / (10 + k))

    def kept(self, first: int, last: int, batch: float) -> float:
        """Gamma functions up to the last k of (1 + k) / (10 + k) < decay, a power of the decay behind it."""
        ramp = (10 * self.decay - 1) / (1 - self.decay)
        turn = min(max(first, math.floor(ramp)), last)
        log = sum(
            sign * math.lgamma(k) for sign, k in ((1, turn + 2), (-1, first + 2), (1, first + 11), (-1, turn + 11))
        )
        return math.exp(log) * self.decay ** (last - turn)


@dataclasses.dataclass(frozen=True)
class HalfLife(Average):
    """w = 1 - 0.5^(batch / h), h = min(images, rampup * images seen before this update): an age in images, not updates.

    images: the half-life once ramped up. rampup: 0 or less for none. Source: Karras et al. 2022, appendix F.1.
    """

    images: float
    rampup: float

    def weight(self, seen: Seen) -> Array:
        life = jnp.full_like(seen.images, self.images)
        if self.rampup > 0:
            life = jnp.minimum(life, self.rampup * (seen.images - seen.batch))
        return -jnp.expm1(-math.log(2) * seen.batch / jnp.maximum(life, 1e-8))

    def kept(self, first: int, last: int, batch: float) -> float:
        """Nothing of the very start where there is a ramp, which begins at an age of 0."""
        if self.rampup <= 0:
            return 0.5 ** ((last - first) * batch / self.images)
        lives = np.minimum(self.images / batch, self.rampup * np.arange(max(first, 1), last))  # in updates
        return 0.5 ** float(np.sum(1 / lives)) if first else float(last == 0)


@dataclasses.dataclass(frozen=True)
class Power(Average):
    """w = 1 - (1 - batch / t)^(gamma + 1), t = seen.images, which weights the parameters of time tau as tau^gamma.

    std: the profile's standard deviation relative to the training so far, which decides gamma. The initial parameters
    have no weight: w = 1 at batch = t. Source: Karras et al. 2023 (EDM2), section 3.1.
    """

    std: float

    def weight(self, seen: Seen) -> Array:
        return -jnp.expm1((std_to_gamma(self.std) + 1) * jnp.log1p(-seen.batch / seen.images))

    def kept(self, first: int, last: int, batch: float) -> float:
        return (first / last) ** (std_to_gamma(self.std) + 1) if last else 1.0


@dataclasses.dataclass(frozen=True)
class Scheduled(Average):
    """w = 1 - decay^(first / M(k)) after k updates, M the steps of a curriculum: a consistency model's target.

    decay: the rate at M = first. Source: Song et al. 2023 (arXiv 2303.01469), appendix C, M + 1 its N.
    """

    decay: float
    first: int
    curriculum: Curriculum

    def weight(self, seen: Seen) -> Array:
        return -jnp.expm1(self.first * math.log(self.decay) / self.curriculum(seen.updates))


def update(averages: dict[str, Average], trees: dict[str, Any], params: Any, seen: Seen) -> dict[str, Any]:
    """Every average after one more update's parameters, by name, in float32 as they are stored."""

    def one(average: Average, tree: Any) -> Any:
        w = average.weight(seen)
        return jax.tree.map(lambda e, p: _between(e, p, w), tree, params)

    return {name: one(average, trees[name]) for name, average in averages.items()}


def _between(e: Array, p: Array, w: Array) -> Array:
    """e + w (p - e), reckoned from the nearer end: e at w = 0 and p at w = 1 to the bit."""
    near = w < 0.5
    return jnp.where(near, e, p) + jnp.where(near, w, w - 1) * (p - e)
