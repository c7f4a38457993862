"""Randomness as a function of (seed, example) alone: one key per example, children of it by purpose.

Whatever devices, batches, calls or processes an example passes through, it meets the same noise. Keys are
threefry: under vmap they give each example the numbers it would get alone (an rbg key depends on its batch).
"""

import enum

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.typing import Array, Keys


class Purpose(enum.IntEnum):
    """What a child key is for; the numbers are part of a run's identity, so never renumber them."""

    FLIP = 0
    DEQUANTIZATION = 1
    TIME = 2
    NOISE = 3
    DROPOUT = 4
    PRIOR = 5
    STEPS = 6
    INITIALIZATION = 7
    CORRECTOR = 8
    STRATA = 9
    CONSTRAINT = 10
    PROJECTION = 11
    AUGMENTATION = 12
    EVALUATION = 13
    PILOT = 14
    CONDITION = 15
    RESAMPLING = 16
    PAIR = 17
    LATENT = 18


def root_key(seed: int | Array) -> Array:
    """The key [] of a whole run."""
    return jax.random.key(seed, impl="threefry2x32")


def positions(first: int, count: int) -> np.ndarray:
    """Global positions first, first + 1, ... as two 32-bit words each (high, low): uint32 [count, 2]."""
    return words(np.uint64(first) + np.arange(count, dtype=np.uint64))


def words(numbers: np.ndarray) -> np.ndarray:
    """Integers [N] of 0 or more as two 32-bit words each (high, low): uint32 [N, 2]."""
    p = np.asarray(numbers, np.uint64)
    return np.stack([p >> np.uint64(32), p & np.uint64(0xFFFFFFFF)], axis=-1).astype(np.uint32)


def numbers(position: np.ndarray) -> np.ndarray:
    """The inverse of `words`: integers uint64 [N] of positions uint32 [N, 2]."""
    high, low = np.asarray(position).astype(np.uint64).T
    return high * np.uint64(2**32) + low


def example_keys(key: Array, position: Array | np.ndarray) -> Keys:
    """One key per example: both words of its position [B, 2] folded into the run's key."""
    return jax.vmap(lambda p: jax.random.fold_in(jax.random.fold_in(key, p[0]), p[1]))(jnp.asarray(position))


def child(keys: Keys, data: int | Array) -> Keys:
    """The children of the keys [B] for one purpose (or one step of a solver)."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def normal(keys: Keys, shape: tuple[int, ...], dtype: jnp.dtype | None = None) -> Array:
    """Standard normals [B, *shape], example b drawn from keys[b] alone."""
    return jax.vmap(lambda k: one_normal(k, shape, dtype))(keys)


def one_normal(key: Array, shape: tuple[int, ...], dtype: jnp.dtype | None = None) -> Array:
    """Standard normals of one key, drawn in float32 at least: made of bfloat16 they are 128 numbers of mean -0.01."""
    if dtype is None or jnp.finfo(dtype).bits >= 32:
        return jax.random.normal(key, shape, dtype)
    return jax.random.normal(key, shape, jnp.float32).astype(dtype)


def uniform(keys: Keys, shape: tuple[int, ...] = ()) -> Array:
    """Uniform numbers in [0, 1), shape [B, *shape], example b drawn from keys[b] alone."""
    return jax.vmap(lambda k: jax.random.uniform(k, shape))(keys)


def low_discrepancy(key: Array, position: Array) -> Array:
    """Stratified uniform numbers [B]: a scrambled (0, 1)-sequence in base 2, indexed by the position [B, 2].

    u_p = (bitreverse16((p mod 2^16) xor scramble) + U_p) / 2^16, with U_p uniform from the example's own key and
    the scramble a hash of the run's key and the block p div 2^16. Each u_p is uniform; any aligned run of 2^k
    positions has exactly one number in each of 2^k strata, so a batch of that size is stratified although no
    example knows its batch. Source: van der Corput's sequence with a random digital shift (Owen 1995).
    """

    def scramble(p: Array) -> Array:
        block = jax.random.fold_in(jax.random.fold_in(key, Purpose.STRATA), p[0])
        return jax.random.bits(jax.random.fold_in(block, p[1] >> 16), (), jnp.uint32)

    bits = (position[:, 1] ^ jax.vmap(scramble)(position)) & 0xFFFF
    for shift, mask in ((1, 0x5555), (2, 0x3333), (4, 0x0F0F), (8, 0x00FF)):
        bits = ((bits >> shift) & mask) | ((bits & mask) << shift)
    # float32 has 24 bits: 16 for the stratum and the 8 leading ones of U keep every number below 1.
    jitter = jnp.floor(uniform(child(example_keys(key, position), Purpose.TIME)) * 256) / 256
    return (bits.astype(jitter.dtype) + jitter) / 65536
