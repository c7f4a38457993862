"""Features of pictures: Inception's as other programs compute them, pixels, functions of one's own."""

import functools
import hashlib
import importlib.metadata
import pathlib

import numpy as np
import pytest

from score_sde.adapters import inception as published
from score_sde.adapters.inception import Weights
from score_sde.errors import UsageError
from score_sde.evaluation.two_sample import to_vectors
from score_sde.experiment.features import Extractor, InceptionFeatures, Pixels, extractor
from tests.evaluation.goldens import GOLDEN
from tests.networks.test_inception import golden, random_layers

with np.load(GOLDEN / "images.npz") as stored:
    IMAGES = dict(stored)


@functools.cache
def random_network() -> InceptionFeatures:
    layers, head = random_layers(int(golden()["seed"]))
    return InceptionFeatures(Weights(layers, head, "random", "a seed"), size=4)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_features_of_several_sizes_in_batches_that_are_padded():
    """The golden's, of torch-fidelity's network and resizing, whatever lies beside a picture."""
    names = list(golden()["names"])
    assert len({IMAGES[name].shape for name in names}) > 1
    found = random_network()([IMAGES[name] for name in names])
    assert relative(found["features"], golden()["2048"]) < 1e-5
    assert relative(found["logits"], golden()["logits_unbiased"]) < 1e-5
    one = IMAGES[names[0]][None]
    alone, several = random_network()(one), random_network()(np.concatenate([one, 255 - one, one, one, one]))
    np.testing.assert_array_equal(several["features"][0], several["features"][2])
    np.testing.assert_array_equal(several["features"][0], several["features"][4])  # of the next batch
    np.testing.assert_array_equal(alone["features"][0], several["features"][0])
    assert relative(alone["features"], found["features"][:1]) < 1e-5
    assert random_network().about == {"features": "inception", "fingerprint": "random", "preprocessing": "tf1"}


def test_grey_pictures_and_others():
    grey = IMAGES[min(IMAGES, key=lambda name: IMAGES[name].size)][None, ..., :1]
    found = random_network()(grey)["features"]
    np.testing.assert_array_equal(found, random_network()(np.repeat(grey, 3, axis=-1))["features"])


NO_PICTURES = {
    "float32": ((8, 8, 3), np.float32), "flat": ((64,), np.uint8), "of a batch": ((2, 8, 8, 3), np.uint8),
    "channels first": ((3, 16, 16), np.uint8), "empty": ((0, 8, 3), np.uint8), "no channels": ((8, 8, 0), np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_for_the_network(name):
    shape, dtype = NO_PICTURES[name]
    for check in (random_network().check, lambda shape, dtype: random_network()(np.zeros((2, *shape), dtype))):
        with pytest.raises(UsageError, match="are none that Inception knows: give uint8"):
            check(shape, dtype)
    with pytest.raises(UsageError, match="there are no pictures"):
        random_network()([])


def rows(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2))


def test_pixels_and_a_function_of_ones_own():
    x = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 2), dtype=np.uint8)
    np.testing.assert_array_equal(Pixels(size=3)(x)["features"], to_vectors(x))
    own = extractor("tests.experiment.test_features.rows", "tf1", "", size=3)
    np.testing.assert_array_equal(own(x)["features"], rows(x))
    digest = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    assert own.about == {"features": "tests.experiment.test_features.rows", "fingerprint": digest}
    real = extractor("pixels", real=True)
    np.testing.assert_array_equal(real(x[..., 0] / 7)["features"], (x[..., 0] / 7).reshape(7, -1))
    assert [p.about["preprocessing"] for p in (Pixels(), real, Pixels(True, comparable=rows))] == [
        "bytes", "stored", "standardised"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="pictures of uint8 cannot be compared with others of real numbers"):
        real(x)


def ragged(images: np.ndarray) -> list:
    return [[1], [1, 2]]


def wider(images: np.ndarray) -> np.ndarray:
    return np.ones((len(images), images[0, 0, 0, 0]))


def nothing(images: np.ndarray) -> np.ndarray:
    return np.ones((len(images), 0))


WRONG = {"ragged": "failed: ", "wider": r"gave rows of \[1, 2\] numbers", "nothing": "not a row of numbers for each"}


@pytest.mark.parametrize("name", WRONG)
def test_a_function_of_ones_own_that_gives_no_features(name):
    own = extractor(f"tests.experiment.test_features.{name}", size=1)
    with pytest.raises(UsageError, match=WRONG[name]):
        own(np.arange(1, 3, dtype=np.uint8).reshape(2, 1, 1, 1))


BAD = {
    "..x": "is unknown",
    "inceptoin": "is unknown: name inception, pixels or a function",
    "numpy.no_such": "cannot be imported",
    "no_such_module.f": "cannot be imported",
    "numpy.pi": "is a float",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_function(name):
    with pytest.raises(UsageError, match=BAD[name]):
        extractor(name, "tf1", "")


def test_a_function_that_gives_no_rows_and_pictures_of_several_sizes():
    own: Extractor = extractor("numpy.sum", "tf1", "")
    with pytest.raises(UsageError, match=r"numpy.sum' gave .* of 3 pictures, not a row of numbers for each"):
        own(np.ones((3, 2, 2, 1), np.uint8))
    with pytest.raises(UsageError, match="takes pictures of one size, and these have several"):
        Pixels()([np.ones((2, 2, 1), np.uint8), np.ones((2, 3, 1), np.uint8)])


def is_installed() -> bool:
    try:
        return bool(importlib.metadata.version(published.PACKAGE))
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.mark.skipif(not is_installed(), reason=f"needs the published weights: {published.INSTALL}")
@pytest.mark.parametrize("preprocessing", ["tf1", "torch", "clean"])
def test_the_published_features(preprocessing):
    """torch-fidelity's, pytorch-fid's and clean-fid's, of pictures of several sizes."""
    with np.load(GOLDEN / "features.npz") as expected:
        names = [name for name in expected["names"] if name in IMAGES]
        at = [list(expected["names"]).index(name) for name in names]
        found = extractor("inception", preprocessing, "", size=4)([IMAGES[name] for name in names])
        assert relative(found["features"], expected[f"{preprocessing}_2048"][at]) < 2e-5
    assert "logits" not in found
