"""The kinds of data: from what is stored to what the network sees and back, and the unit of their likelihoods.

Bytes are pictures, or anything else of 0 to 255; real numbers are standardised per channel, point sets around their
centre; tokens are left alone.
"""

import abc
import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from score_sde.data.augment import bits_offset, preprocess, random_flip, to_uint8
from score_sde.data.points import invariants
from score_sde.rng import Purpose, child
from score_sde.storage.curves import of_rank
from score_sde.storage.scatter import scatter
from score_sde.typing import Array, Keys, sum_per_example


class Kind(abc.ABC):
    """What becomes of stored examples [B, ...]; every example by its own key."""

    unit: str
    """What likelihoods are told in, per dimension: bits, of quantised data, or nats."""

    @abc.abstractmethod
    def encode(self, keys: Keys, stored: Array, training: bool = True) -> Array:
        """What the network sees, float32 [B, ...]; flips in training alone."""

    @abc.abstractmethod
    def continuous(self, keys: Keys, stored: Array) -> Array:
        """What a density is taken of, float32 [B, ...]: bytes dequantised uniformly, whatever the training."""

    @abc.abstractmethod
    def decode(self, x: Array) -> Array:
        """The network's range -> the data's units and dtype [B, ...]."""

    @property
    @abc.abstractmethod
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """(a, b), [1] or [channels]: the data's units are a + b x, x in the network's range. ValueError for tokens."""

    @abc.abstractmethod
    def comparable(self, x: np.ndarray) -> np.ndarray:
        """Examples in the data's units as two-sample figures compare them, on the host: real data standardised."""

    @abc.abstractmethod
    def per_dimension(self, nats: Array, shape: tuple[int, ...]) -> Array:
        """-log p in nats of what `continuous` gives, examples of this shape -> that of the data, per dimension."""

    def pictured(self, x: np.ndarray) -> np.ndarray:
        """Examples in the data's units [n, ...] as they are looked at: themselves, or of points pictures, uint8."""
        return x

    def log_volume(self, present: Array) -> Array:
        """log |d stored / d x| [B] of what is there of examples, present bool [B, ...]: what -log p in nats gains."""
        raise ValueError("examples of this kind miss nothing")


@dataclasses.dataclass(frozen=True)
class Bytes(Kind):
    """uint8 0 .. 255 <-> [-1, 1] where centered, else [0, 1]; P(bytes) is the density times the volume of a cell."""

    flip: bool
    dequantization: bool
    centered: bool
    unit: str = "bits"

    def encode(self, keys: Keys, stored: Array, training: bool = True) -> Array:
        options = {"dequantization": self.dequantization, "centered": self.centered}
        return preprocess(keys, stored, flip=self.flip and training, **options)

    def continuous(self, keys: Keys, stored: Array) -> Array:
        return preprocess(keys, stored, flip=False, dequantization=True, centered=self.centered)

    def decode(self, x: Array) -> Array:
        return to_uint8(x, dequantization=self.dequantization, centered=self.centered)

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """A byte b that is dequantised becomes (b + u) / 256, whose mean is that of (b + 1/2) / 256."""
        whole = 256.0 if self.dequantization else 255.0
        low = -0.5 if self.dequantization else 0.0
        return (
            (np.array([low + whole / 2]), np.array([whole / 2]))
            if self.centered
            else (
                np.array([low]),
                np.array([whole]),
            )
        )

    def comparable(self, x: np.ndarray) -> np.ndarray:
        return x

    def per_dimension(self, nats: Array, shape: tuple[int, ...]) -> Array:
        return nats / (math.prod(shape) * math.log(2)) + bits_offset(self.centered)


@dataclasses.dataclass(frozen=True)
class Real(Kind):
    """(x - mean) / std per channel: mean and std are one number, or one for each entry of the last axis.

    missing: whether NaN stands for what is not there; then it stays, but in what is compared is the mean. rank: axes of
    space of an example.
    """

    flip: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    missing: bool = False
    rank: int = 2
    unit: str = "nats"

    def encode(self, keys: Keys, stored: Array, training: bool = True) -> Array:
        x = self.continuous(keys, stored)
        return random_flip(child(keys, Purpose.FLIP), x) if self.flip and training else x

    def continuous(self, keys: Keys, stored: Array) -> Array:
        mean, std = self._statistics(stored.ndim)
        return (stored.astype(jnp.float32) - mean) / std

    def decode(self, x: Array) -> Array:
        mean, std = self._statistics(x.ndim)
        return x * std + mean

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.mean, float), np.asarray(self.std, float)

    def comparable(self, x: np.ndarray) -> np.ndarray:
        found = (x - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.where(np.isnan(x), np.float32(0), found) if self.missing else found

    def per_dimension(self, nats: Array, shape: tuple[int, ...]) -> Array:
        return nats / math.prod(shape) + float(np.mean(np.log(self.std)))

    def pictured(self, x: np.ndarray) -> np.ndarray:
        return of_rank(x, self.rank)

    def log_volume(self, present: Array) -> Array:
        return sum_per_example(jnp.where(present, jnp.log(self._statistics(present.ndim)[1]), 0))

    def _statistics(self, ndim: int) -> tuple[Array, Array]:
        """Mean and std, broadcasting against examples of so many axes."""
        one = lambda v: jnp.asarray(v, jnp.float32).reshape((1,) * (ndim - 1) + (len(v),))
        return one(self.mean), one(self.std)


@dataclasses.dataclass(frozen=True)
class Points(Kind):
    """Sets [N, D + F] of coordinates and features: each set's centre is taken off, then (x - mean) / std.

    dimension: D, whose mean is 0 and whose std is one. A point that is absent is a row of NaN, and stays one.
    """

    dimension: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: str = "nats"

    def encode(self, keys: Keys, stored: Array, training: bool = True) -> Array:
        return self.continuous(keys, stored)

    def continuous(self, keys: Keys, stored: Array) -> Array:
        mean, std = self._statistics
        coordinates = stored[..., : self.dimension].astype(jnp.float32)
        centre = jnp.nanmean(coordinates, axis=1, keepdims=True)
        x = jnp.concatenate([coordinates - centre, stored[..., self.dimension :].astype(jnp.float32)], axis=-1)
        return (x - mean) / std

    def decode(self, x: Array) -> Array:
        mean, std = self._statistics
        return x * std + mean

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.mean, float), np.asarray(self.std, float)

    def comparable(self, x: np.ndarray) -> np.ndarray:
        """What neither rotation nor order changes, standardised (points.invariants)."""
        return invariants((x - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32), self.dimension)

    def pictured(self, x: np.ndarray) -> np.ndarray:
        return scatter(x, self.dimension)

    def per_dimension(self, nats: Array, shape: tuple[int, ...]) -> Array:
        present = jnp.ones((1, *shape), bool)
        return (nats + self.log_volume(present)[0]) / (math.prod(shape) - self.dimension)

    def log_volume(self, present: Array) -> Array:
        """Of the centred shape: one row of coordinates counts for nothing."""
        logs, count = jnp.log(self._statistics[1]), present[..., 0].sum(1)
        rows = jnp.stack([count - 1] * self.dimension + [count] * (len(self.std) - self.dimension), axis=-1)
        return sum_per_example(rows * logs.reshape(1, -1))

    @property
    def _statistics(self) -> tuple[Array, Array]:
        """Mean and std [1, 1, D + F]."""
        one = lambda v: jnp.asarray(v, jnp.float32).reshape(1, 1, -1)
        return one(self.mean), one(self.std)


@dataclasses.dataclass(frozen=True)
class Tokens(Kind):
    """Integers, which have no density: whatever sees them embeds them."""

    unit: str = "nats"

    def encode(self, keys: Keys, stored: Array, training: bool = True) -> Array:
        return stored.astype(jnp.int32)

    def continuous(self, keys: Keys, stored: Array) -> Array:
        raise ValueError("tokens have no density: ask the system for its bound")

    def decode(self, x: Array) -> Array:
        return x.astype(jnp.int32)

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError("tokens are no numbers")

    def comparable(self, x: np.ndarray) -> np.ndarray:
        return x

    def per_dimension(self, nats: Array, shape: tuple[int, ...]) -> Array:
        return nats / math.prod(shape)
