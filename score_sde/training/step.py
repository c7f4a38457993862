"""The pure training state and step: (state, batches) -> (state, metrics), several updates per call by one scan."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from score_sde.data.stream import Batch
from score_sde.training import ema
from score_sde.training.optimizer import Optimizer, global_norm
from score_sde.typing import Array

Loss = Callable[[Any, Batch], tuple[Array, Array]]
"""(params, batch) -> the loss of every example [B], and the quantile u in [0, 1) of the time it was taken at [B]."""

BINS = 10
"""The loss is also reported in so many bins of the law of t, of equal probability each."""


class TrainState(NamedTuple):
    """Everything that training changes; `step` counts the updates made or skipped, int32 []; `averages` have names."""

    step: Array
    params: Any
    averages: dict[str, Any]
    optimizer: Any


class Losses(NamedTuple):
    """A batch's mean loss [], and the sum of its losses and the number of its examples in each bin of t, [BINS]."""

    mean: Array
    binned: Array
    counts: Array


class Metrics(NamedTuple):
    """What one update reports, scalars but for the bins; after a call all have a leading axis of its updates.

    parameter_norm: of the parameters that the update made, whether they were taken or skipped.
    """

    loss: Array
    gradient_norm: Array
    parameter_norm: Array
    learning_rate: Array
    skipped: Array
    binned_loss: Array
    binned_count: Array


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def initial_state(params: Any, optimizer: Optimizer, averages: Iterable[str]) -> TrainState:
    """The state before the first update; the averages of these names start at the parameters."""
    copies = {name: jax.tree.map(jnp.copy, params) for name in averages}
    return TrainState(jnp.int32(0), params, copies, optimizer.init(params))


def summarize(loss: Array, u: Array) -> Losses:
    """The summary of a batch's losses [B] at quantiles u [B]."""
    bins = jax.nn.one_hot(jnp.clip(u * BINS, 0, BINS - 1).astype(jnp.int32), BINS, dtype=loss.dtype)
    # A sum of products, not a matrix product: one example that is not finite must not spoil the other bins.
    binned = jnp.sum(jnp.where(bins > 0, loss[:, None], 0), axis=0)
    return Losses(jnp.mean(loss), binned, jnp.sum(bins, axis=0))


def gradients(
    loss: Loss, params: Any, batch: Batch, axis_name: str | None = None, microbatches: int = 1
) -> tuple[Losses, Any]:
    """A batch's losses and the gradient of their mean, over all mapped devices where an axis is named.

    With microbatches M the batch [B, ...] passes in M parts, one after the other, each of every M-th example (so that
    a batch spread over devices stays where it is): the same mean and gradient in a M-th of the activations' memory.
    """

    def part(batch: Batch) -> tuple[Losses, Any]:
        def mean(params: Any) -> tuple[Array, Losses]:
            losses = summarize(*loss(params, batch))
            return losses.mean, losses

        grads, losses = jax.grad(mean, has_aux=True)(params)
        return losses, grads

    losses, grads = part(batch) if microbatches == 1 else _accumulate(part, batch, microbatches)
    if axis_name is None:
        return losses, grads
    mean, grads = jax.lax.pmean((losses.mean, grads), axis_name)
    return Losses(mean, *jax.lax.psum((losses.binned, losses.counts), axis_name)), grads


def _accumulate(part: Callable[[Batch], tuple[Losses, Any]], batch: Batch, count: int) -> tuple[Losses, Any]:
    """Sums over parts in a loop, the means divided by their number at the end."""
    parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1), batch)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(part, jax.tree.map(lambda x: x[0], parts))
    )
    add = lambda total, batch: (jax.tree.map(jnp.add, total, part(batch)), None)
    (losses, grads), _ = jax.lax.scan(add, zeros, parts)
    return losses._replace(mean=losses.mean / count), jax.tree.map(lambda g: g / count, grads)


def make_train_step(
    loss: Loss,
    optimizer: Optimizer,
    averages: dict[str, ema.Average],
    axis_name: str | None = None,
    *,
    microbatches: int = 1,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """A step over batches with a leading axis [K]: K updates in one scan, metrics for each.

    skip_nonfinite: an update whose loss, gradient or new parameters are not finite changes nothing but `step`.
    """

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        losses, grads = gradients(loss, state.params, batch, axis_name, microbatches)
        norm = global_norm(grads)
        params, opt_state = optimizer.update(grads, state.optimizer, state.params, state.step)
        seen = ema.seen_after(state.step, jnp.asarray(batch.position), axis_name)
        updated = ema.update(averages, state.averages, params, seen)
        size = global_norm(params)
        finite = jnp.isfinite(losses.mean) & jnp.isfinite(norm) & jnp.isfinite(size)
        skipped = ~finite if skip_nonfinite else jnp.bool_(False)
        new = (params, updated, opt_state)
        if skip_nonfinite:
            new = jax.tree.map(lambda n, old: jnp.where(skipped, old, n), new, state[1:])
        rate, left_out = optimizer.rate(state.step), skipped.astype(jnp.float32)
        metrics = Metrics(losses.mean, norm, size, rate, left_out, losses.binned, losses.counts)
        return TrainState(state.step + 1, *new), metrics

    return lambda state, batches: jax.lax.scan(update, state, batches)
