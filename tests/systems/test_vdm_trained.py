"""Variational diffusion trained on Gaussian data, whose entropy no bound is below; under a minute."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.stream import Batch
from score_sde.networks.gamma import Gamma
from score_sde.objectives.variational import gaussian_decoder
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key, uniform
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import initial_state, make_train_step
from score_sde.typing import expand
from tests.systems.diffusing import BENDS, Bent, integrals, vdm

pytestmark = pytest.mark.oracles

D, V = 8, 0.16
ENTROPY = 0.5 * np.log(2 * np.pi * np.e * V)
"""Nats per dimension: 0.5026."""


class Scaled(nn.Module):
    """z times a perceptron of gamma: the exact noise of Gaussian data is such a number."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None):
        hidden = jnp.tanh(nn.Dense(64, param_dtype=x.dtype)(label[:, None] / 4))
        scale = jax.nn.softplus(nn.Dense(1, param_dtype=x.dtype)(hidden))[:, 0]
        return expand(jnp.sqrt(jax.nn.sigmoid(label)) * scale, x) * x


def trained(schedule: Gamma, steps: int = 6000) -> tuple[Any, Any]:
    """A system of these data, and its parameters after so many updates of 256 examples, at a rate that falls to 0."""
    system = vdm((D,), schedule, Scaled(), decoder=gaussian_decoder)
    params = system.init(root_key(1), {})
    optimizers = {part: Optimizer(learning_rate=1e-2, warmup=0, grad_clip=-1.0, decay_steps=steps) for part in params}

    def loss(params, view, batch):
        keys = example_keys(root_key(2), batch.position)
        x0, u = V**0.5 * normal(child(keys, Purpose.DEQUANTIZATION), (D,)), uniform(child(keys, Purpose.TIME))
        return *system.losses(params, view, keys, x0, {}, u)[:1], u, {}

    step = jax.jit(make_train_step(loss, optimizers, {}))
    position = positions(0, steps * 256).reshape(steps, 256, 2)
    state, _ = step(initial_state(params, optimizers, {}), {}, Batch(np.zeros((steps, 256, 1)), position, {}))
    return system, state.params


@pytest.fixture(scope="module")
def learned():
    system, params = trained(Gamma(-3.0, 2.0, features=32))
    sde = system.sde(params)
    return system, params, [float(sde.gamma(t)) for t in (0.0, 1.0)]


def test_learned_ends_come_near_the_entropy(learned):
    """Within 0.005 nats per dimension, from 0.02 and more where they began; nothing is below it."""
    system, params, _ = learned
    bound, _, _ = integrals(system, params, V, D)
    assert ENTROPY < bound < ENTROPY + 0.005


def test_the_bound_is_that_of_every_schedule_and_its_variance_least_of_the_learned_one(learned):
    """Of the same weights and ends under bent schedules: equal bounds, unequal squares."""
    system, params, ends = learned
    bound, diffusion, square = integrals(system, params, V, D)
    squares = {}
    for name in BENDS:
        other = vdm((D,), Bent(name, *ends), Scaled(), decoder=gaussian_decoder)
        found = integrals(other, {**params, "schedule": {}}, V, D)
        assert found[0] == pytest.approx(bound, abs=2e-5), name
        squares[name] = found[2] - diffusion**2
    assert square - diffusion**2 < 0.99 * min(squares.values())
