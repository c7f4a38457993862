"""Bytes to network input and back: exact mirrors, exact laws, each example by its own key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data import augment
from score_sde.rng import Purpose, child, example_keys, positions, root_key
from tests.golden_files import quick_jit

B = 2048


@pytest.fixture(scope="module")
def keys():
    return example_keys(root_key(0), positions(0, B))


def noise_images(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_a_flip_is_an_exact_mirror_for_half_of_the_examples(keys):
    images = noise_images((B, 2, 3, 1)).astype(np.float32)
    flipped = np.asarray(quick_jit(augment.random_flip)(keys, jnp.asarray(images)))
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / B**0.5
    assert abs((mirrored[1:] == mirrored[:-1]).mean() - 0.5) < 5 * 0.5 / B**0.5


@pytest.mark.parametrize("function", [augment.random_flip, augment.dequantize])
def test_each_example_is_a_function_of_its_own_key(function, keys):
    """Neither the batch nor the neighbours matter."""
    function = quick_jit(function)
    images = jnp.asarray(noise_images((16, 4, 4, 3)) / np.float32(255))
    whole = np.asarray(function(keys[:16], images))
    for part in (slice(0, 1), slice(5, 9)):
        np.testing.assert_array_equal(function(keys[part], images[part]), whole[part])
    order = np.arange(16)[::-1]
    np.testing.assert_array_equal(function(keys[order], images[order]), whole[order])
    other = example_keys(root_key(1), positions(0, 16))
    assert (np.asarray(function(other, images)) != whole).any()


def test_dequantisation_is_uniform_within_the_bin_and_keeps_the_byte(keys):
    """x' = (255 x + u) / 256, u uniform in [0, 1): mean 1/2, variance 1/12."""
    pixels = noise_images((B, 8, 8, 1))
    x = np.asarray(augment.dequantize(keys, jnp.asarray(pixels, jnp.float32) / 255), np.float64)
    assert np.mean(np.floor(256 * x) != pixels) < 3e-5  # float32 rounds 255 (k / 255) + u over the edge, if rarely
    u = 256 * x - pixels
    n = u.size
    assert -2e-5 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() <= 1 + 2e-5
    assert abs(u.mean() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5
    assert 0 <= x.min() < x.max() <= 1


@pytest.mark.parametrize("centered, low, high", [(True, -1, 1), (False, 0, 1)])
def test_scale_and_its_inverse(centered, low, high):
    x = jnp.linspace(0, 1, 11)
    y = augment.scale(x, centered)
    np.testing.assert_allclose(y, np.linspace(low, high, 11), atol=1e-7)
    np.testing.assert_allclose(augment.unscale(y, centered), x, atol=1e-7)


@pytest.mark.parametrize("centered", [True, False])
def test_bytes_survive_the_way_to_the_network_and_back(centered, keys):
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    x = augment.preprocess(keys[:4], jnp.asarray(pixels), flip=False, dequantization=False, centered=centered)
    assert x.dtype == jnp.float32
    expected = 2 * (pixels / 255) - 1 if centered else pixels / 255
    np.testing.assert_allclose(x, expected, atol=2e-7)
    np.testing.assert_array_equal(augment.to_uint8(x, dequantization=False, centered=centered), pixels)


@pytest.mark.parametrize("centered", [True, False])
def test_to_uint8_rounds_and_clips(centered):
    values = np.array([-9.0, -0.6, -0.4, 0.4, 0.6, 100.4, 100.6, 254.4, 254.6, 255.4, 300.0], np.float32)
    x = augment.scale(jnp.asarray(values / 255), centered)
    found = augment.to_uint8(x, dequantization=False, centered=centered)
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 1, 100, 101, 254, 255, 255, 255])


@pytest.mark.parametrize("centered", [True, False])
def test_dequantised_bytes_come_back(centered, keys):
    """floor(256 x) undoes (255 p + u) / 256 for p below 255 up to float32 rounding; 255 is the open upper end."""
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    x = augment.preprocess(keys[:4], jnp.asarray(pixels), flip=False, dequantization=True, centered=centered)
    found = augment.to_uint8(x, dequantization=True, centered=centered)
    expected = np.floor(255 * (pixels / 255) + np.asarray(augment.unscale(x, centered)) * 256 - pixels)
    np.testing.assert_array_equal(found, np.clip(expected, 0, 255))
    np.testing.assert_array_equal(found, pixels)


def test_preprocessing_draws_flip_and_noise_from_children_of_the_example_key(keys):
    """Flip first, then dequantisation, then scaling, each with the key of its purpose."""
    pixels = noise_images((8, 4, 4, 3))
    keys = keys[:8]
    found = augment.preprocess(keys, jnp.asarray(pixels), flip=True, dequantization=True, centered=True)
    uniform = lambda shape: jax.jit(jax.vmap(lambda key: jax.random.uniform(key, shape)))
    flip = np.asarray(uniform(())(child(keys, Purpose.FLIP))) < 0.5
    u = np.asarray(uniform((4, 4, 3))(child(keys, Purpose.DEQUANTIZATION)))
    flipped = np.where(flip[:, None, None, None], pixels[:, :, ::-1], pixels)
    np.testing.assert_allclose(found, 2 * ((flipped + u) / 256) - 1, atol=1e-6)
    assert 0 < flip.sum() < 8
