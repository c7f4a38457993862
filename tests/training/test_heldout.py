"""The loss on held-out images: the mean over all of them whatever the batches, at noise of its own, without dropout."""

import jax
import numpy as np
import pytest

from score_sde.data.stream import Batch
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.rng import positions
from score_sde.training.heldout import HeldOut
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_config(evaluation__every=1, evaluation__num_images=21))


@pytest.fixture(scope="module")
def params(experiment):
    leaves, tree = jax.tree.flatten(experiment.abstract_state().params)
    noise = [0.1 * np.random.RandomState(i).normal(size=leaf.shape).astype("f") for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, noise)


def test_it_is_the_mean_over_the_first_images_with_the_last_batch_padded(experiment, params):
    """21 images in batches of 16, against one loss over 21."""
    held_out = HeldOut(experiment)
    found = held_out({"raw": params, "half": jax.tree.map(lambda p: p / 2, params)})
    batch = Batch(experiment.images.held_out[:21], positions(0, 21))
    loss = jax.jit(lambda p: experiment.loss(p, batch, held_out=True)[0])
    np.testing.assert_allclose(found["raw"], np.mean(loss(params)), rtol=1e-6)
    assert found["half"] != found["raw"]
    assert held_out({"raw": params}) == {"raw": found["raw"]}


def test_dropout_and_flips_are_off_and_the_noise_is_not_the_trainings(experiment, params):
    """Of the same images at the same positions: held-out losses know no dropout and flip, and another noise."""
    plain = build(tiny_config(network__dropout=0.0, data__random_flip=False))
    batch = Batch(experiment.images.held_out[:8], positions(0, 8))
    held_out, _ = jax.jit(lambda p: experiment.loss(p, batch, held_out=True))(params)
    same, _ = jax.jit(lambda p: plain.loss(p, batch, held_out=True))(params)
    training, _ = jax.jit(lambda p: plain.loss(p, batch))(params)
    np.testing.assert_allclose(held_out, same, rtol=1e-6)
    assert np.abs(np.asarray(training) / same - 1).min() > 1e-6


def test_a_set_without_held_out_images_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 1), np.uint8))
    changes = {"data__name": "array", "data__path": str(tmp_path / "x.npy"), "evaluation__every": 5}
    with pytest.raises(UsageError, match=r"evaluation.every=5 asks for held-out images .* set data.held_out"):
        HeldOut(build(tiny_config(**changes)))
