"""The training step: the same numbers over devices and calls, and only those that it should depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.stream import Batch
from score_sde.experiment import build
from score_sde.parallel import AXIS, Pmap
from score_sde.training.step import gradients, make_train_step
from tests.golden_files import relative_error
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_config())


@pytest.fixture(scope="module")
def state(experiment):
    """A state whose zero-initialised layers have been shaken, so that every gradient counts."""
    state = experiment.initial_state()
    leaves, tree = jax.tree.flatten(state.params)
    noise = [np.random.RandomState(i).normal(size=leaf.shape).astype(np.float32) for i, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(tree, [leaf + 0.05 * n for leaf, n in zip(leaves, noise)])
    return state._replace(params=params, averages={name: jax.tree.map(jnp.copy, params) for name in state.averages})


def batch_of(experiment, first: int, steps: int) -> Batch:
    return experiment.stream.batches(first, 16, steps)


def test_raw_gradients_agree_on_1_2_and_8_devices(experiment, state):
    """Before clipping and Adam, which would hide a gradient N times too large."""
    batch = batch_of(experiment, 0, 1)
    results = []
    for n in (1, 2, 8):
        strategy = Pmap(jax.local_devices()[:n])
        # A leading axis of one step, as the strategy splits it.
        run = jax.pmap(
            lambda params, b: gradients(experiment.loss, params, jax.tree.map(lambda x: x[0], b), AXIS),
            axis_name=AXIS,
            devices=strategy.devices,
        )
        loss, grads = strategy.fetch_state(run(strategy.place_state(state.params), strategy.place_batches(batch)))
        results.append((np.asarray(loss), jax.tree.map(np.asarray, grads)))
    (loss, reference), *others = results
    assert np.abs(np.concatenate([np.ravel(g) for g in jax.tree.leaves(reference)])).max() > 0.01
    for other_loss, other in others:
        np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
        flat = [np.concatenate([np.ravel(g) for g in jax.tree.leaves(tree)]) for tree in (other, reference)]
        assert relative_error(*flat) < 1e-5


@pytest.fixture(scope="module")
def step(experiment):
    """The step without devices, compiled once for each number of updates per call."""
    return jax.jit(make_train_step(experiment.loss, experiment.optimizer, experiment.averages))


def test_ten_calls_or_one_call_of_ten_agree(experiment, state, step):
    once, metrics = step(state, batch_of(experiment, 0, 10))
    many, losses = state, []
    for i in range(10):
        many, one = step(many, batch_of(experiment, 16 * i, 1))
        losses.append(float(one.loss[0]))
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-5)
    assert metrics.loss.shape == metrics.gradient_norm.shape == metrics.learning_rate.shape == (10,)
    assert int(once.step) == int(many.step) == 10
    for a, b in ((once.params, many.params), (once.averages, many.averages)):
        flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (a, b)]
        assert relative_error(*flat) < 1e-6


def test_a_step_compiles_once(experiment, state, step):
    step(state, batch_of(experiment, 160, 1))
    before = step._cache_size()
    step(state, batch_of(experiment, 1600, 1))
    assert step._cache_size() == before


def test_an_examples_loss_depends_on_its_position_alone(experiment, state):
    """Flip, dequantisation, t, z and dropout included: whatever the batch around it, in whatever order."""
    loss = jax.jit(experiment.loss)
    batch = jax.tree.map(lambda x: x[0], batch_of(experiment, 48, 1))
    order = np.random.RandomState(0).permutation(16)
    whole = np.asarray(loss(state.params, batch))
    shuffled = np.asarray(loss(state.params, Batch(batch.image[order], batch.position[order])))
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-5)
    elsewhere = np.asarray(loss(state.params, Batch(batch.image, batch.position + np.uint32(16))))
    assert np.abs(elsewhere / whole - 1).min() > 1e-6


def test_the_metric_is_the_mean_loss_and_the_norm_of_the_raw_gradient(experiment, state, step):
    batch = jax.tree.map(lambda x: x[0], batch_of(experiment, 0, 1))
    value, grads = jax.jit(lambda p: gradients(experiment.loss, p, batch))(state.params)
    _, metrics = step(state, batch_of(experiment, 0, 1))
    np.testing.assert_allclose(metrics.loss[0], value, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(metrics.gradient_norm[0], norm, rtol=1e-4)


def test_training_changes_everything_but_the_fourier_frequencies():
    """VE, Fourier embedding: W has no gradient; every other parameter has one."""
    changes = {"sde__name": "ve", "network__embedding_type": "fourier", "network__scale_by_sigma": True}
    changes |= {"parametrization__prediction": "score", "parametrization__label": "sigma", "network__dropout": 0.0}
    changes |= {"network__ch_mult": (1, 2), "network__progressive_input": "residual"}
    ve = build(tiny_config(**changes))
    params = jax.tree.map(lambda s: jnp.full(s.shape, 0.03, s.dtype), ve.abstract_state().params)
    params = jax.tree_util.tree_map_with_path(
        lambda path, p: (
            p + 0.1 * np.random.RandomState(len(jax.tree_util.keystr(path))).normal(size=p.shape).astype("f")
        ),
        params,
    )
    batch = jax.tree.map(lambda x: x[0], ve.stream.batches(0, 16, 1))
    _, grads = jax.jit(lambda p: gradients(ve.loss, p, batch))(params)
    for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
        assert bool(np.any(gradient)) == ("GaussianFourier" not in jax.tree_util.keystr(path)), path


def test_bfloat16_computes_nearly_the_same_loss_from_float32_parameters(experiment, state):
    """bfloat16 has 8 bits: the mean loss agrees to 2 %, gradients come out float32."""
    half = build(tiny_config(training__compute_dtype="bfloat16"))
    batch = jax.tree.map(lambda x: x[0], batch_of(experiment, 0, 1))
    value, _ = jax.jit(lambda p: gradients(experiment.loss, p, batch))(state.params)
    other, grads = jax.jit(lambda p: gradients(half.loss, p, batch))(state.params)
    np.testing.assert_allclose(other, value, rtol=0.02)
    assert float(other) != float(value)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {np.dtype("float32")}
