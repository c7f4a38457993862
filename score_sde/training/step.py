"""The pure training state and step: (state, batches) -> (state, metrics), several updates per call by one scan."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from score_sde.data.stream import Batch
from score_sde.training import ema
from score_sde.training.optimizer import Optimizer, global_norm
from score_sde.typing import Array

Loss = Callable[[Any, Batch], Array]
"""(params, batch) -> the loss of every example [B]."""


class TrainState(NamedTuple):
    """Everything that training changes; `step` counts the updates made, int32 []; `averages` have names."""

    step: Array
    params: Any
    averages: dict[str, Any]
    optimizer: Any


class Metrics(NamedTuple):
    """What one update reports; after a call, every field has a leading axis of its updates."""

    loss: Array
    gradient_norm: Array
    learning_rate: Array


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def initial_state(params: Any, optimizer: Optimizer, averages: Iterable[str]) -> TrainState:
    """The state before the first update; the averages of these names start at the parameters."""
    copies = {name: jax.tree.map(jnp.copy, params) for name in averages}
    return TrainState(jnp.int32(0), params, copies, optimizer.init(params))


def gradients(loss: Loss, params: Any, batch: Batch, axis_name: str | None = None) -> tuple[Array, Any]:
    """Mean loss [] and its gradient over one batch, averaged over the mapped devices where an axis is named."""
    result = jax.value_and_grad(lambda p: jnp.mean(loss(p, batch)))(params)
    return jax.lax.pmean(result, axis_name) if axis_name is not None else result


def make_train_step(
    loss: Loss, optimizer: Optimizer, averages: dict[str, ema.Average], axis_name: str | None = None
) -> TrainStep:
    """A step over batches with a leading axis [K]: K updates in one scan, a metric for each."""

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        value, grads = gradients(loss, state.params, batch, axis_name)
        params, opt_state = optimizer.update(grads, state.optimizer, state.params, state.step)
        seen = ema.seen_after(state.step, jnp.asarray(batch.position), axis_name)
        updated = ema.update(averages, state.averages, params, seen)
        metrics = Metrics(value, global_norm(grads), optimizer.rate(state.step))
        return TrainState(state.step + 1, params, updated, opt_state), metrics

    return lambda state, batches: jax.lax.scan(update, state, batches)
