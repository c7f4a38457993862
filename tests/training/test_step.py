"""The training step: the same numbers over devices and calls, and only those that it should depend on."""

import dataclasses
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config import choices, load
from score_sde.data.stream import Batch
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.experiment import build
from score_sde.rng import positions
from score_sde.training.ema import Constant
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import BINS, gradients, initial_state, make_train_step
from tests.golden_files import relative_error
from tests.gradients import NO_VIEW, drawn_params, flat, loss_and_gradients, raw_gradients, shaken_state, shallow
from tests.processes import end, environment, free_address
from tests.tiny import tiny_config

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def experiment():
    """With a network that compiles in no time."""
    return shallow()


@pytest.fixture(scope="module")
def tiny():
    """With a network of all parts."""
    return build(tiny_config())


@pytest.fixture(scope="module")
def params(tiny):
    return drawn_params(tiny)


@pytest.fixture(scope="module")
def cifar10():
    return build(load(str(ROOT / "configs/vp/cifar10_ncsnpp_continuous.py")))


@pytest.fixture(scope="module")
def state(experiment):
    return shaken_state(experiment)


def batch_of(experiment, first: int, steps: int) -> Batch:
    return experiment.stream.batches(first, 16, steps)


WAYS = {
    "pmap on 2": (lambda d: Pmap(d[:2]), 1),
    "pmap on 4, two microbatches": (lambda d: Pmap(d[:4]), 2),
    "pmap on 8": (lambda d: Pmap(d), 1),
    "sharded on 1, four microbatches": (lambda d: Sharded(1, d[:1]), 4),
    "sharded on 8": (lambda d: Sharded(1, d), 1),
    "sharded on 4, all of them fsdp": (lambda d: Sharded(0, d[:4]), 1),
    "sharded on 8, 4 of them fsdp, two microbatches": (lambda d: Sharded(4, d), 2),
}


@pytest.fixture(scope="module")
def alone(experiment, state):
    losses, grads = loss_and_gradients(experiment, state.params, batch_of(experiment, 0, 1))
    assert np.abs(grads).max() > 0.01
    return losses, grads


@pytest.mark.parametrize("way", WAYS)
def test_raw_gradients_agree_on_all_devices_and_strategies(experiment, state, alone, way):
    make, microbatches = WAYS[way]
    strategy = make(jax.devices())
    losses, grads = raw_gradients(experiment, strategy, microbatches, state.params, batch_of(experiment, 0, 1))
    np.testing.assert_allclose(losses.mean, alone[0].mean, rtol=1e-6)
    np.testing.assert_allclose(losses.binned, alone[0].binned, rtol=1e-5)
    np.testing.assert_array_equal(losses.counts, alone[0].counts)
    assert relative_error(grads, alone[1]) < 1e-5


def test_raw_gradients_agree_between_two_processes_which_read_disjoint_rows(experiment, tmp_path):
    """Two real processes of two devices each; both see the same gradients, and half of the batch."""
    whole = batch_of(experiment, 0, 1)
    losses, grads = loss_and_gradients(experiment, drawn_params(experiment), whole)
    env = environment(pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]), devices=2)
    address = free_address()
    command = lambda process: [sys.executable, "-m", "tests.gradients", str(tmp_path), address, str(process)]
    pair = [subprocess.Popen(command(i), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) for i in range(2)]
    for process in pair:
        code, said = end(process)
        assert code == 0, said
    seen = [np.load(tmp_path / f"{i}.npz") for i in range(2)]
    for one in seen:
        for way in ("pmap", "sharded"):
            np.testing.assert_allclose(one[f"{way}_loss"], losses.mean, rtol=1e-6)
            assert relative_error(one[way], grads) < 1e-5
    for name in ("position", "x"):
        np.testing.assert_array_equal(np.concatenate([one[name] for one in seen], 1), getattr(whole, name))


def test_bins_are_means_over_a_tenth_of_the_law_of_t(experiment, state, alone):
    """Recomputed from the losses and quantiles of the examples."""
    batch = jax.tree.map(lambda x: x[0], batch_of(experiment, 0, 1))
    loss, u, _ = jax.jit(experiment.loss)(state.params, NO_VIEW, batch)
    bins = np.floor(np.asarray(u) * 10).astype(int)
    expected = [np.asarray(loss)[bins == i].sum() for i in range(10)]
    np.testing.assert_allclose(alone[0].binned, expected, rtol=1e-5)
    np.testing.assert_array_equal(alone[0].counts, np.bincount(bins, minlength=10))


def test_fsdp_takes_an_eighth_of_the_memory_of_the_published_network(cifar10):
    """Parameters, averages and optimizer state of NCSN++ by their shapes: what one of 8 devices holds of them."""
    state = cifar10.abstract_state()
    held = lambda tree: sum(math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))
    whole = held(Pmap().abstract(state))
    assert whole == sum(math.prod(x.shape) for x in jax.tree.leaves(state)) > 4 * 60e6
    assert held(Sharded(fsdp=0).abstract(state)) < 0.13 * whole
    assert held(Sharded(fsdp=2).abstract(state)) < 0.51 * whole


def test_a_sharded_state_is_made_in_its_place(experiment):
    """No device ever holds the whole of it, and every number is the one of a single device."""
    strategy = Sharded(fsdp=0)
    made = dataclasses.replace(experiment, strategy=strategy).initial_state()
    expected = experiment.initial_state()
    for a, b, sharding in zip(*map(jax.tree.leaves, (made, expected, strategy.shardings(expected)))):
        assert a.sharding == sharding
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert sum(not a.is_fully_replicated for a in jax.tree.leaves(made)) > 10


def test_placing_a_state_and_fetching_it_is_lossless(state):
    for strategy in (Pmap(), Sharded(fsdp=0), Sharded(fsdp=2)):
        placed = strategy.place_state(state)
        fetched = strategy.fetch_state(placed)
        again = strategy.fetch_state(strategy.place_state(fetched))
        for a, b, c in zip(*map(jax.tree.leaves, (fetched, again, state))):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, c)


@pytest.fixture(scope="module")
def step(experiment):
    """The step without devices, compiled once for each number of updates per call."""
    update = make_train_step(experiment.loss, experiment.optimizers, experiment.averages)
    return jax.jit(lambda state, batches: update(state, {}, batches))


def test_ten_calls_or_one_call_of_ten_agree(experiment, state, step):
    once, metrics = step(state, batch_of(experiment, 0, 10))
    many, losses = state, []
    for i in range(10):
        many, one = step(many, batch_of(experiment, 16 * i, 1))
        losses.append(float(one.loss[0]))
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-5)
    assert {m.shape for m in jax.tree.leaves(metrics)} == {(10,), (10, BINS)}
    assert int(once.step) == int(many.step) == 10
    for a, b in ((once.params, many.params), (once.averages, many.averages)):
        assert relative_error(flat(a), flat(b)) < 1e-6


def test_a_step_compiles_once(experiment, state, step):
    step(state, batch_of(experiment, 160, 1))
    before = step._cache_size()
    step(state, batch_of(experiment, 1600, 1))
    assert step._cache_size() == before


def test_an_examples_loss_depends_on_its_position_alone(tiny, params):
    """Flip, dequantisation, t, z and dropout included: whatever the batch around it, in whatever order."""
    loss = jax.jit(lambda params, batch: tiny.loss(params, NO_VIEW, batch)[0])
    batch = jax.tree.map(lambda x: x[0], batch_of(tiny, 48, 1))
    order = np.random.RandomState(0).permutation(16)
    whole = np.asarray(loss(params, batch))
    shuffled = np.asarray(loss(params, Batch(batch.x[order], batch.position[order])))
    np.testing.assert_allclose(shuffled, whole[order], rtol=1e-5)
    elsewhere = np.asarray(loss(params, Batch(batch.x, batch.position + np.uint32(16))))
    assert np.abs(elsewhere / whole - 1).min() > 1e-6


def test_the_metric_is_the_mean_loss_and_the_norm_of_the_raw_gradient(experiment, state, step):
    batch = jax.tree.map(lambda x: x[0], batch_of(experiment, 0, 1))
    value, grads = jax.jit(lambda p: gradients(experiment.loss, p, NO_VIEW, batch))(state.params)
    _, metrics = step(state, batch_of(experiment, 0, 1))
    np.testing.assert_allclose(metrics.loss[0], value.mean, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(grads)))
    np.testing.assert_allclose(metrics.gradient_norm[0], norm, rtol=1e-4)


def test_training_changes_everything_but_the_fourier_frequencies():
    """VE, Fourier embedding: W has no gradient; every other parameter has one."""
    changes = {"sde__name": "ve", "network__embedding_type": "fourier", "network__scale_by_sigma": True}
    changes |= {"parametrization__prediction": "score", "parametrization__label": "sigma", "network__dropout": 0.0}
    changes |= {"network__ch_mult": (1, 2), "network__progressive_input": "residual"}
    changes |= {"network__attn_resolutions": ()}  # there is one in the middle
    ve = build(tiny_config(**changes))
    batch = jax.tree.map(lambda x: x[0], ve.stream.batches(0, 16, 1))
    _, grads = jax.jit(lambda p: gradients(ve.loss, p, NO_VIEW, batch))(drawn_params(ve))
    for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
        assert bool(np.any(gradient)) == ("GaussianFourier" not in jax.tree_util.keystr(path)), path


def test_bfloat16_computes_nearly_the_same_loss_from_float32_parameters(tiny, params):
    """bfloat16 has 8 bits: the mean loss agrees to 2 %."""
    half = build(tiny_config(training__compute_dtype="bfloat16"))
    batch = jax.tree.map(lambda x: x[0], batch_of(tiny, 0, 1))
    value, other = (jax.jit(lambda p, e=e: e.loss(p, NO_VIEW, batch)[0].mean())(params) for e in (tiny, half))
    np.testing.assert_allclose(other, value, rtol=0.02)
    assert float(other) != float(value)


@pytest.mark.parametrize("word", choices("training.compute_dtype"))
def test_gradients_and_adam_are_float32_under_every_compute_dtype(word, monkeypatch):
    """Of the traced step: what Adam is given, and every number of the state behind it."""
    experiment = build(tiny_config(training__compute_dtype=word, training__microbatches=2))
    update, given = Optimizer.update, set()

    def recorded(self, grads, *rest):
        given.update(leaf.dtype.name for leaf in jax.tree.leaves(grads))
        return update(self, grads, *rest)

    monkeypatch.setattr(Optimizer, "update", recorded)
    step = make_train_step(experiment.loss, experiment.optimizers, experiment.averages, microbatches=2)
    state, _ = jax.eval_shape(step, experiment.abstract_state(), {}, batch_of(experiment, 0, 2))
    assert given == {"float32"}
    kept = (state.params, state.averages, state.optimizer)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(kept) if jnp.issubdtype(leaf.dtype, jnp.inexact)} == {"float32"}


def test_an_update_that_is_not_finite_is_skipped_alone():
    """A batch with a broken example changes nothing but the count; the next one does what it would have done."""

    def loss(params, view, batch):
        x = batch.x[:, 0, 0, 0]
        broken = jnp.where(batch.position[:, 1] == 5, jnp.nan, 1.0)
        return broken * (params["only"]["w"].sum() - x) ** 2, x, {}

    parts = {"only": Optimizer(learning_rate=0.1, warmup=0)}, {"constant": Constant(0.9)}
    state = initial_state({"only": {"w": jnp.arange(3.0)}}, *parts)
    update = make_train_step(loss, *parts, skip_nonfinite=True)
    step = jax.jit(lambda state, batches: update(state, {}, batches))
    batches = Batch(np.linspace(0, 0.9, 8, dtype=np.float32).reshape(2, 4, 1, 1, 1), positions(4, 8).reshape(2, 4, 2))
    after, metrics = step(state, batches)
    assert metrics.skipped.tolist() == [1, 0]
    assert np.isfinite(metrics.loss).tolist() == [False, True]
    expected, _ = step(state._replace(step=state.step + 1), jax.tree.map(lambda x: x[1:], batches))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(expected)):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(after.params["only"]["w"], state.params["only"]["w"])
    stopped, _ = jax.jit(make_train_step(loss, *parts))(state, {}, batches)
    assert np.isnan(stopped.params["only"]["w"]).all()
