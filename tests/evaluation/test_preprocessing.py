"""Preprocessing against what entered the networks of torch-fidelity, pytorch-fid and clean-fid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.evaluation.preprocessing import PREPROCESSINGS, in_colour
from tests.evaluation.goldens import GOLDEN

TOLERANCE = {"tf1": 1.2e-7, "torch": 3e-6, "clean": 1.2e-7}
with np.load(GOLDEN / "images.npz") as stored:
    IMAGES = dict(stored)
with np.load(GOLDEN / "features.npz") as stored:
    NAMES, PLACES = list(stored["names"]), stored["positions"]
    EXPECTED = {way: stored[f"{way}_input"] for way in PREPROCESSINGS}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("way", PREPROCESSINGS)
def test_what_enters_the_network(way, name):
    """At 13 rows and columns, of pictures larger and smaller than 299, and of that size."""
    found = PREPROCESSINGS[way](IMAGES[name][None])
    assert found.dtype == np.float32 and found.shape == (1, 299, 299, 3)
    expected = EXPECTED[way][NAMES.index(name)].transpose(1, 2, 0)
    np.testing.assert_allclose(found[0][PLACES][:, PLACES], expected, rtol=0, atol=TOLERANCE[way])
    if way == "tf1":
        np.testing.assert_array_equal(found[0][PLACES][:, PLACES], expected)


@pytest.mark.parametrize("shape", [(32, 32), (28, 40), (299, 320)])
@pytest.mark.parametrize("way", PREPROCESSINGS)
def test_in_a_compiled_program(way, shape):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    found = jax.jit(lambda x: PREPROCESSINGS[way](x, jnp))(images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, PREPROCESSINGS[way](images), rtol=0, atol=4e-7 if way == "tf1" else 1e-6)


@pytest.mark.parametrize("way", PREPROCESSINGS)
def test_a_constant_picture_stays_one(way):
    images = np.full((1, 50, 20, 3), 200, np.uint8)
    expected = 2 * 200 / 255 - 1 if way == "torch" else 72 / 128
    np.testing.assert_allclose(PREPROCESSINGS[way](images), expected, rtol=0, atol=2e-7)


def test_grey_is_repeated_and_alpha_dropped():
    x = np.arange(2 * 4).reshape(1, 2, 1, 4).astype(np.uint8)
    np.testing.assert_array_equal(in_colour(x), x[..., :3])
    for channels in (1, 2):
        np.testing.assert_array_equal(in_colour(x[..., :channels]), np.repeat(x[..., :1], 3, axis=-1))
