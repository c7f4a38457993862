"""The loss on held-out images: the mean over them whatever the batches, at noise of its own, without dropout."""

import jax
import numpy as np
import pytest

from score_sde.data.sources import Dataset
from score_sde.data.stream import Batch
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build, objects
from score_sde.loop.heldout import HeldOut
from score_sde.rng import positions
from tests.golden_files import quick_jit
from tests.gradients import NO_VIEW
from tests.tiny import tiny_config, with_network
from tests.training.small import OneConvolution


def experiment(**changes) -> Experiment:
    return with_network(build(tiny_config(evaluation__every=1, **changes)), OneConvolution())


@pytest.fixture(scope="module")
def params():
    shapes = experiment().abstract_state().params
    return jax.tree.map(lambda s: np.random.RandomState(0).normal(size=s.shape).astype("f"), shapes)


@pytest.fixture(scope="module")
def loss():
    """Of every image of 64."""
    return quick_jit(lambda params, batch: experiment().loss(params, NO_VIEW, batch, held_out=True)[0])


class Counted:
    """Images that note how often each was read."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.shape, self.reads = images, images.shape, np.zeros(len(images), int)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        np.add.at(self.reads, indices, 1)
        return self.images[indices]


@pytest.mark.parametrize("count", [0, 21])
def test_it_is_the_mean_over_a_fixed_choice_of_images_each_read_once(params, loss, monkeypatch, count):
    """53 images or 21 of them in batches of 16, against one loss over all; three sets of weights, one reading."""
    images = np.random.RandomState(1).randint(0, 256, (53, 8, 8, 1)).astype(np.uint8)
    source = Counted(images)
    monkeypatch.setitem(objects.DATA, "digits", lambda c: Dataset(images, source))
    sets = {name: jax.tree.map(lambda p, k=k: p / k, params) for k, name in enumerate(("raw", "half", "third"), 1)}
    held_out = HeldOut(experiment(evaluation__num_images=count))
    found = held_out(sets)
    numbers = np.sort(np.random.RandomState(0).permutation(53)[: count or 53])
    padding = -len(numbers) % 16
    expected = np.bincount(numbers, minlength=53)
    expected[numbers[-1]] += padding
    np.testing.assert_array_equal(source.reads, expected)
    batch = Batch(images[np.resize(numbers, 64)], positions(0, 64))
    for name, weights in sets.items():
        np.testing.assert_allclose(found[name], np.mean(loss(weights, batch)[: len(numbers)]), rtol=1e-6)
    assert held_out({"raw": params}) == {"raw": found["raw"]}


def test_dropout_and_flips_are_off_and_the_noise_is_not_the_trainings(params, loss):
    """Of the same images at the same positions: the program knows no dropout and flip, and has another noise."""
    shaken, plain = experiment(), experiment(network__dropout=0.0, data__random_flip=False)
    batch = Batch(shaken.data.held_out[:64], positions(0, 64))
    program = lambda e, held_out: (
        jax.jit(lambda p: e.loss(p, NO_VIEW, batch, held_out=held_out)[0]).lower(params).as_text()
    )
    assert program(shaken, True) == program(plain, True)
    assert program(shaken, False) != program(plain, False)
    training = np.asarray(quick_jit(lambda p: plain.loss(p, NO_VIEW, batch)[0])(params))
    assert np.abs(training / loss(params, batch) - 1).min() > 1e-6


def test_a_set_without_held_out_images_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 1), np.uint8))
    changes = {"data__name": "array", "data__path": str(tmp_path / "x.npy"), "evaluation__every": 5}
    with pytest.raises(UsageError, match=r"evaluation.every=5 asks for held-out images .* set data.held_out"):
        HeldOut(build(tiny_config(**changes)))
