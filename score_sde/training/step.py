"""The pure training state and step: (state, batches) -> (state, metrics), several updates per call by one scan."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from score_sde.data.stream import Batch
from score_sde.training import ema
from score_sde.training.optimizer import Optimizer, global_norm
from score_sde.typing import Array

Params = dict[str, Any]
"""{part: pytree of arrays}."""


class View(NamedTuple):
    """What a loss may see of training beside the parameters; no gradient reaches it.

    step: updates made before this one, int32 []. averages: {name: {part: tree}}. frozen: {part: {its own part: tree}}
    of other runs.
    """

    step: Array
    averages: dict[str, Params]
    frozen: dict[str, Params]


class Loss(Protocol):
    """(params, view, batch) -> the loss of every example [B], the quantile u in [0, 1) of its time [B], its terms."""

    def __call__(self, params: Params, view: View, batch: Batch, /) -> tuple[Array, Array, dict[str, Array]]: ...


RESERVED = frozenset(
    ("step", "loss", "loss_by_t", "gradient_norm", "parameter_norm", "learning_rate", "skipped", "images_per_second",
     "input_wait", "device_memory_mb")
)  # fmt: skip
"""Names in the log that no term of a loss may have."""

BINS = 10
"""The loss is also reported in so many bins of the law of t, of equal probability each."""

BY_T = "_by_t"
"""What the names of terms end in that are reported in these bins too."""


class TrainState(NamedTuple):
    """Everything that training changes; `step` counts the updates made or skipped, int32 [].

    params: {part: tree}. averages: {name: {part: tree}}. optimizer: {part: the state of its optimizer}.
    """

    step: Array
    params: Params
    averages: dict[str, Params]
    optimizer: dict[str, Any]


class Losses(NamedTuple):
    """A batch's mean loss [], its terms [] (or [BINS], see `summarize`), the sum of its losses and the number of its
    examples by bin of t, [BINS].
    """

    mean: Array
    terms: dict[str, Array]
    binned: Array
    counts: Array


class Metrics(NamedTuple):
    """What one update reports, scalars but for the bins; after a call all have a leading axis of its updates.

    parameter_norm: of the parameters that the update made, whether they were taken or skipped. learning_rate: of the
    first part. more: the loss's terms by name and, where there are several parts, norms and rate of each, such as
    gradient_norm/critic.
    """

    loss: Array
    gradient_norm: Array
    parameter_norm: Array
    learning_rate: Array
    skipped: Array
    binned_loss: Array
    binned_count: Array
    more: dict[str, Array] = {}  # noqa: RUF012


TrainStep = Callable[[TrainState, dict[str, Params], Batch], tuple[TrainState, Metrics]]
"""(state, frozen parts of other runs, batches [K, ...]) -> (state, metrics [K])."""

Optimizers = dict[str, Optimizer]
"""By part."""


def initial_state(params: Params, optimizers: Optimizers, averages: Iterable[str]) -> TrainState:
    """The state before the first update; the averages of these names start at the parameters."""
    copies = {name: jax.tree.map(jnp.copy, params) for name in averages}
    return TrainState(jnp.int32(0), params, copies, {part: optimizers[part].init(params[part]) for part in params})


def summarize(loss: Array, u: Array, terms: dict[str, Array] | None = None) -> Losses:
    """The summary of a batch's losses [B] at quantiles u [B], and of their terms by name [B].

    Of a term whose name ends in BY_T it is by bin of t, [BINS], the sum of each over the number of all examples.
    Raises ValueError for a term by a name that the log has for something else.
    """
    if taken := RESERVED.intersection(terms or {}):
        raise ValueError(
            f"a term of the loss is called {min(taken)!r}, which the log has for something else: rename it"
        )
    bins = jax.nn.one_hot(jnp.clip(u * BINS, 0, BINS - 1).astype(jnp.int32), BINS, dtype=loss.dtype)
    # A sum of products, not a matrix product: one example that is not finite must not spoil the other bins.
    binned = jnp.sum(jnp.where(bins > 0, loss[:, None], 0), axis=0)
    mean = lambda x, by_t: jnp.mean(bins * x[:, None], axis=0) if by_t else jnp.mean(x)
    means = {name: mean(term, name.endswith(BY_T)) for name, term in (terms or {}).items()}
    return Losses(jnp.mean(loss), means, binned, jnp.sum(bins, axis=0))


def gradients(
    loss: Loss, params: Params, view: View, batch: Batch, axis_name: str | None = None, microbatches: int = 1
) -> tuple[Losses, Params]:
    """A batch's losses and the gradient of their mean, over all mapped devices where an axis is named.

    With microbatches M the batch [B, ...] passes in M parts, one after the other, each of every M-th example (so that
    a batch spread over devices stays where it is): the same mean and gradient in a M-th of the activations' memory.
    """

    def part(batch: Batch) -> tuple[Losses, Any]:
        def mean(params: Params) -> tuple[Array, Losses]:
            losses = summarize(*loss(params, view, batch))
            return losses.mean, losses

        grads, losses = jax.grad(mean, has_aux=True)(params)
        return losses, grads

    losses, grads = part(batch) if microbatches == 1 else _accumulate(part, batch, microbatches)
    if axis_name is None:
        return losses, grads
    mean, terms, grads = jax.lax.pmean((losses.mean, losses.terms, grads), axis_name)
    return Losses(mean, terms, *jax.lax.psum((losses.binned, losses.counts), axis_name)), grads


def _accumulate(part: Callable[[Batch], tuple[Losses, Any]], batch: Batch, count: int) -> tuple[Losses, Any]:
    """Sums over parts in a loop, the means divided by their number at the end."""
    parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1), batch)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(part, jax.tree.map(lambda x: x[0], parts))
    )
    add = lambda total, batch: (jax.tree.map(jnp.add, total, part(batch)), None)
    (losses, grads), _ = jax.lax.scan(add, zeros, parts)
    mean, terms, grads = jax.tree.map(lambda total: total / count, (losses.mean, losses.terms, grads))
    return losses._replace(mean=mean, terms=terms), grads


def make_train_step(
    loss: Loss,
    optimizers: Optimizers,
    averages: dict[str, ema.Average],
    axis_name: str | None = None,
    *,
    microbatches: int = 1,
    skip_nonfinite: bool = False,
    norm: Callable[[Params], Array] = global_norm,
) -> TrainStep:
    """A step over batches with a leading axis [K]: K updates in one scan, metrics for each.

    Every part moves by its own optimizer, on the gradient of the one loss in it, all at once. skip_nonfinite: an update
    whose loss, gradient or new parameters are not finite changes nothing but `step`. norm: the L2 norm of a tree [], in
    the form that suits what is compiled for.
    """

    def update(state: TrainState, frozen: dict[str, Params], batch: Batch) -> tuple[TrainState, Metrics]:
        view = View(state.step, state.averages, frozen)
        losses, grads = gradients(loss, state.params, view, batch, axis_name, microbatches)
        norms = {part: norm(tree) for part, tree in grads.items()}
        params, opt_state = _updated(optimizers, grads, norms, state)
        seen = ema.seen_after(state.step, jnp.asarray(batch.position), axis_name)
        updated = ema.update(averages, state.averages, params, seen)
        sizes = {part: norm(tree) for part, tree in params.items()}
        slope, size = _whole(norms), _whole(sizes)
        finite = jnp.isfinite(losses.mean) & jnp.isfinite(slope) & jnp.isfinite(size)
        skipped = ~finite if skip_nonfinite else jnp.bool_(False)
        new = (params, updated, opt_state)
        if skip_nonfinite:
            new = jax.tree.map(lambda n, old: jnp.where(skipped, old, n), new, state[1:])
        rates = {part: optimizers[part].rate(state.step) for part in params}
        more = {**losses.terms, **_by_part(norms, sizes, rates)}
        rate, left_out = rates[next(iter(optimizers))], skipped.astype(jnp.float32)
        metrics = Metrics(losses.mean, slope, size, rate, left_out, losses.binned, losses.counts, more)
        return TrainState(state.step + 1, *new), metrics

    def step(state: TrainState, frozen: dict[str, Params], batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda state, batch: update(state, frozen, batch), state, batches)

    return step


def _updated(
    optimizers: Optimizers, grads: Params, norms: dict[str, Array], state: TrainState
) -> tuple[Params, dict[str, Any]]:
    """New parameters and optimizer states of every part."""
    found = {
        part: optimizers[part].update(grads[part], state.optimizer[part], state.params[part], state.step, norms[part])
        for part in state.params
    }
    return {part: new[0] for part, new in found.items()}, {part: new[1] for part, new in found.items()}


def _whole(norms: dict[str, Array]) -> Array:
    """The norm over all parts, of theirs."""
    found = list(norms.values())
    return found[0] if len(found) == 1 else jnp.linalg.norm(jnp.stack(found))


def _by_part(norms: dict[str, Array], sizes: dict[str, Array], rates: dict[str, Array]) -> dict[str, Array]:
    """Norms of gradients and parameters, and the rate, of every part, where there are several."""
    if len(norms) == 1:
        return {}
    by_name = {"gradient_norm": norms, "parameter_norm": sizes, "learning_rate": rates}
    return {f"{name}/{part}": found[part] for part in norms for name, found in by_name.items()}
