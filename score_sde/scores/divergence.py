"""The diagonal of a vector field's Jacobian, exactly or by Hutchinson's estimate, with the field's value.

Summed over an example it is the divergence. Forward mode throughout, which the network's convolutions must have
(conv.py).
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.errors import require
from score_sde.rng import Purpose, child, normal
from score_sde.typing import Array, Keys

Field = Callable[[Array], Array]
"""x [B, ...] -> [B, ...], each example's value a function of that example alone."""

Estimate = Callable[[Field, Array], tuple[Array, Array]]
"""(field, x [B, ...]) -> its value [B, ...] and M independent estimates of its divergence [B, M]; one forward pass."""


def exact(field: Field, x: Array, chunk: int = 16) -> tuple[Array, Array]:
    """f(x) and df_i / dx_i, both [B, ...], by D directional derivatives, `chunk` at a time."""
    value, push = jax.linearize(field, x)
    size, dimension = len(x), math.prod(x.shape[1:])

    def entry(i: Array) -> Array:
        direction = jnp.broadcast_to(jnp.arange(dimension)[None] == i, (size, dimension)).astype(x.dtype)
        return push(direction.reshape(x.shape)).reshape(size, dimension)[:, i]

    return value, jax.lax.map(entry, jnp.arange(dimension), batch_size=chunk).T.reshape(x.shape)


def hutchinson(field: Field, x: Array, directions: Array) -> tuple[Array, Array]:
    """f(x) and the mean over m of v_m (J v_m), elementwise, both [B, ...]; directions v [M, B, ...].

    Unbiased for the diagonal where E v v^T = I (Hutchinson 1990): standard normal or Rademacher v.
    """
    value, products = _products(field, x, directions)
    return value, jnp.mean(products, axis=0)


def along(directions: Array, field: Field, x: Array) -> tuple[Array, Array]:
    """f(x) [B, ...] and v_m . J v_m for every m, [B, M]; directions v [M, B, ...]."""
    value, products = _products(field, x, directions)
    return value, jnp.sum(products, axis=tuple(range(2, products.ndim))).T


def _products(field: Field, x: Array, directions: Array) -> tuple[Array, Array]:
    value, push = jax.linearize(field, x)
    return value, directions * jax.vmap(push)(directions)


class Divergence(abc.ABC):
    """A way to the divergence of one field after another, the same random directions for all of them."""

    @abc.abstractmethod
    def estimate(self, keys: Keys, x: Array) -> Estimate:
        """The estimate whose directions example b of x [B, ...] draws from keys[b]."""


@dataclasses.dataclass(frozen=True)
class Exact(Divergence):
    """The divergence itself, as one estimate, by D directional derivatives."""

    def estimate(self, keys: Keys, x: Array) -> Estimate:
        def whole(field: Field, x: Array) -> tuple[Array, Array]:
            value, diagonal = exact(field, x)
            return value, jnp.sum(diagonal.reshape(len(x), -1), axis=-1, keepdims=True)

        return whole


class _Hutchinson(Divergence):
    """v . J v with E v v^T = I: a subclass draws v."""

    probes: int

    def estimate(self, keys: Keys, x: Array) -> Estimate:
        return functools.partial(along, self.draw(child(keys, Purpose.PROJECTION), x))

    @abc.abstractmethod
    def draw(self, keys: Keys, x: Array) -> Array:
        """Directions [M, B, ...] for x [B, ...]."""


@dataclasses.dataclass(frozen=True)
class Rademacher(_Hutchinson):
    """Signs: variance 2 sum_{i != j} S_ij^2 of one estimate, S the Jacobian's symmetric part (Hutchinson 1990)."""

    probes: int = 1

    def draw(self, keys: Keys, x: Array) -> Array:
        signs = lambda key: jax.random.rademacher(key, x.shape[1:], x.dtype)
        return jax.vmap(lambda m: jax.vmap(signs)(child(keys, m)))(jnp.arange(self.probes))


@dataclasses.dataclass(frozen=True)
class Gaussian(_Hutchinson):
    """Standard normals: variance 2 |S|^2 of one estimate."""

    probes: int = 1

    def draw(self, keys: Keys, x: Array) -> Array:
        return jax.vmap(lambda m: normal(child(keys, m), x.shape[1:], x.dtype))(jnp.arange(self.probes))


@dataclasses.dataclass(frozen=True)
class Coloured(Divergence):
    """One estimate from M signed probes that cancel the couplings of near neighbours: the variance-reduced form.

    v_m = s * h_m, s signs and h_m(i) = (-1)^{bits of m & code_i}, the code interleaving the bits of a pixel's place.
    As sum_m h_m(i) h_m(j) = M if code_i = code_j mod M, or else 0, the mean of the M has

        variance 2 sum S_ij^2 over i != j of one colour, the code mod M, where M independent ones have it over all / M,

    S the Jacobian's symmetric part: M = 4 colours a plane's 2x2 tiles, so none of the eight neighbours counts. Images'
    scores couple those most: the variance for the digits is less than half. It is
    exact where every element has a colour of its own. `probes` is a power of two; UsageError for others and for more
    than there are colours. For more estimates give other keys. Source of the idea: Tang & Saad 2012, "A probing method
    for computing the diagonal of a matrix inverse".
    """

    probes: int = 4

    def estimate(self, keys: Keys, x: Array) -> Estimate:
        directions = self.draw(child(keys, Purpose.PROJECTION), x)

        def mean(field: Field, x: Array) -> tuple[Array, Array]:
            value, estimates = along(directions, field, x)
            return value, jnp.mean(estimates, axis=1, keepdims=True)

        return mean

    def draw(self, keys: Keys, x: Array) -> Array:
        """Directions [M, B, ...] for x [B, ...]."""
        code, codes = interleaved(x.shape[1:])
        require(
            self.probes in [2**k for k in range(codes.bit_length())],
            f"probes={self.probes} is not a power of two up to the {codes} colours of {x.shape[1:]}: try 4",
        )
        common = np.bitwise_count(np.arange(self.probes).reshape(-1, *[1] * code.ndim) & code[None])
        signs = Rademacher().draw(keys, x)
        return signs * jnp.asarray(1 - 2.0 * (common[:, None] % 2), x.dtype)


def interleaved(shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """A number for every element of an array, the lowest bits of all its indices first, and how many numbers there are.

    Elements whose numbers agree modulo 2^k lie apart: for images [H, W, C] and k = 2 by two pixels or more.
    """
    code, bits = np.zeros(shape, np.int64), 0
    lengths = [(n - 1).bit_length() for n in shape]
    for level in range(max(lengths, default=0)):
        for index, length in zip(np.indices(shape), lengths):
            if level < length:
                code |= ((index >> level) & 1) << bits
                bits += 1
    return code, 2**bits
