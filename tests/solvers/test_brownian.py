"""Brownian paths: parts add up to what they are parts of, and have the law of increments."""

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.rng import example_keys, positions, root_key
from score_sde.solvers.brownian import decayed_increment, split

N = 4096


def test_a_split_has_the_covariance_of_two_increments(float64):
    """Exactly, as it is linear in the increment, of variance first + second, and in its own normal."""
    first, second = jnp.array([0.3, 2.0, 0.0, 0.0]), jnp.array([0.9, 1e-9, 0.5, 0.0])
    zero, one = jnp.zeros((4, 1)), jnp.ones((4, 1))
    slopes = [np.concatenate(split(*pair), axis=1) for pair in ((one, first, second, zero), (zero, first, second, one))]
    of_increment = slopes[0] * np.sqrt(first + second)[:, None]
    covariance = np.einsum("bi,bj->bij", of_increment, of_increment) + np.einsum("bi,bj->bij", slopes[1], slopes[1])
    np.testing.assert_allclose(covariance, [np.diag(pair) for pair in zip(first, second)], atol=1e-15)


def test_parts_add_up_at_every_level(float64):
    """N(a, b) = N(m, b) + e^{-(r_b - r_m)} N(a, m) at 64 parts of levels 0 to 15 of one path; nothing overflows."""
    level = jnp.repeat(jnp.arange(16, dtype=jnp.int32), 4)
    index = jnp.asarray(np.random.RandomState(0).randint(0, 2**15, 64), jnp.int32) >> (15 - level)
    keys = jnp.broadcast_to(root_key(0), (64,))
    part = jax.jit(lambda level, index, decay: decayed_increment(keys, (3,), level, index, decay))
    for decay in (0.0, 1e-3, 2.0, 300.0):
        whole = part(level, index, decay)
        left, right = (part(level + 1, 2 * index + side, decay) for side in (0, 1))
        carried = np.exp(-decay * 0.5 ** (np.asarray(level) + 1.0))[:, None] * left
        np.testing.assert_allclose(right + carried, whole, rtol=1e-9, atol=1e-12 * (decay > 0))
        assert np.isfinite(whole).all()


def test_increments_are_normal_independent_and_of_the_right_variance():
    """The eight parts of 4096 paths: 5 standard errors of Monte Carlo."""
    keys, decay = example_keys(root_key(0), positions(0, N)), jnp.float32(4.0)
    part = jax.jit(lambda index: decayed_increment(keys, (), *jnp.full((2, N), 3).at[1].set(index), decay))
    parts = np.stack([part(jnp.int32(i)) for i in range(8)]) / np.sqrt(1 - np.exp(-2 * 4.0 / 8))
    np.testing.assert_allclose(parts.mean(1), 0, atol=5 / np.sqrt(N))
    np.testing.assert_array_less(np.abs(parts @ parts.T / N - np.eye(8)), 5 * np.sqrt((1 + np.eye(8)) / N))
    np.testing.assert_allclose((parts**4).mean(), 3, atol=5 * np.sqrt(96 / (8 * N)))
