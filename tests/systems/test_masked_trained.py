"""Masked diffusion trained on a Markov chain, whose entropy no bound is below; under a minute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.markov import chains, nats, transition_error
from score_sde.data.stream import Batch
from score_sde.networks import Transformer
from score_sde.rng import Purpose, child, example_keys, positions, root_key, uniform
from score_sde.systems import Masked
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import initial_state, make_train_step
from tests.systems.masking import V

pytestmark = pytest.mark.oracles

STEPS, BATCH = 1500, 128


@pytest.fixture(scope="module")
def learned():
    """A transformer's system after so many updates, at a rate that falls to 0."""
    system = Masked((8,), V, Transformer(V, 64, 2, 2), steps=lambda: 64)
    params = system.init(root_key(0), {})
    optimizers = {"denoiser": Optimizer(learning_rate=2e-3, warmup=100, decay_steps=STEPS)}

    def loss(params, view, batch):
        keys = example_keys(root_key(1), batch.position)
        u = uniform(child(keys, Purpose.TIME))
        return *system.losses(params, view, keys, batch.x, {}, u)[:1], u, {}

    step = jax.jit(make_train_step(loss, optimizers, {}))
    x = chains(STEPS * BATCH, 0).reshape(STEPS, BATCH, 8)
    position = positions(0, STEPS * BATCH).reshape(STEPS, BATCH, 2)
    state, _ = step(initial_state(params, optimizers, {}), {}, Batch(x, position, {}))
    return system, state.params


def test_the_held_out_bound_is_within_two_errors_of_the_entropy(learned):
    """Against the examples' own -log p, whose mean is the entropy: 0.01 nats of 6.17 above it, or two errors."""
    system, params = learned
    x0, keys = chains(20_000, 1), example_keys(root_key(2), positions(0, 20_000))
    u = (np.random.default_rng(2).permutation(len(x0)) + 0.5) / len(x0)
    found = jax.jit(system.nats)(params, keys, x0, jnp.asarray(u, jnp.float32))
    gap = np.asarray(found, np.float64) - nats(x0)
    assert abs(gap.mean()) < 2 * gap.std() / len(x0) ** 0.5


def test_its_samples_have_the_chains_transitions(learned):
    system, params = learned
    drawn = jax.jit(lambda keys: system.draw(params, keys, {}).x)(example_keys(root_key(3), positions(0, 5000)))
    assert transition_error(np.asarray(drawn)) < 0.04
