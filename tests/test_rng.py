"""Keys by position, beyond 32 bits, and the stratified sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import example_keys, low_discrepancy, normal, positions, root_key


def test_positions_cross_the_word_boundary():
    np.testing.assert_array_equal(positions(2**32 - 1, 2), np.array([[0, 2**32 - 1], [1, 0]], np.uint32))


def test_keys_of_both_words_differ():
    keys = jax.random.key_data(example_keys(root_key(0), np.array([[0, 1], [1, 0], [1, 1]], np.uint32)))
    assert len(np.unique(np.asarray(keys), axis=0)) == 3


@pytest.mark.parametrize("first", [0, 128, 3 * 65536 + 256, 2**32 + 512])
def test_every_aligned_batch_is_stratified(first):
    """One number in each of B strata for every power of two B, and each B numbers anew."""
    u = np.asarray(low_discrepancy(root_key(1), positions(first, 128)))
    for size in (128, 64, 32):
        for batch in u.reshape(-1, size):
            np.testing.assert_array_equal(np.sort(np.floor(batch * size)), np.arange(size))
    assert len(np.unique(u)) == 128


def test_low_discrepancy_is_uniform_over_runs_and_a_function_of_the_position():
    u = np.stack([np.asarray(low_discrepancy(root_key(s), positions(5, 3))) for s in range(400)])
    np.testing.assert_allclose(u.mean(0), 0.5, atol=4 / np.sqrt(12 * 400))
    np.testing.assert_allclose(u.var(0), 1 / 12, atol=4 * np.sqrt(1 / 180 / 400))
    np.testing.assert_array_equal(low_discrepancy(root_key(7), positions(7, 1)), np.float32(u[7, 2]))


def test_low_discrepancy_stays_below_one_and_above_zero():
    u = np.asarray(low_discrepancy(root_key(2), positions(0, 65536)))
    assert u.min() >= 0
    assert u.max() < 1
    np.testing.assert_allclose(u.mean(), 0.5, atol=1e-5)  # plain Monte Carlo: 1e-3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_normals_are_rounded_wide_ones(dtype):
    """Those drawn of few bits were 128 numbers of mean -0.012, and a chain of 1,000 steps went astray by the sum."""
    keys = example_keys(root_key(3), positions(0, 64))
    narrow = normal(keys, (1000,), jnp.dtype(dtype))
    np.testing.assert_array_equal(narrow, normal(keys, (1000,)).astype(dtype))
    drawn = np.asarray(narrow, np.float64)
    assert len(np.unique(drawn)) > 1000
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    np.testing.assert_allclose(drawn.var(), 1, atol=4 * np.sqrt(2 / drawn.size))


def test_normals_are_of_the_width_asked_for(float64):
    keys = example_keys(root_key(3), positions(0, 2))
    assert [normal(keys, (2,), d).dtype for d in (None, jnp.float32, jnp.float64)] == ["float64", "float32", "float64"]
