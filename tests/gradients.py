"""Raw gradients of an experiment by any strategy: python -m tests.gradients FOLDER HOST:PORT PROCESS

As a program it is one of two processes of one run of the shallow experiment, and writes what it saw of the batch and
the gradients by each way.
"""

import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.devices.arrays import collect
from score_sde.devices.parallel import Pmap, Sharded, Strategy, process_rows
from score_sde.experiment import Experiment, build
from score_sde.training.step import Losses, TrainState, View, gradients
from tests.tiny import tiny_config, with_network
from tests.training.small import Shallow

BATCH = 16
NO_VIEW = View(np.int32(0), {}, {})
"""For losses that look at nothing but parameters and batch."""
WAYS = {"pmap": (Pmap, 2), "sharded": (lambda: Sharded(fsdp=0), 1)}
"""Of two processes; each with its number of microbatches."""


def shallow() -> Experiment:
    """The tiny experiment with a network that compiles in no time, and is large enough to be sharded."""
    return with_network(build(tiny_config()), Shallow(widths=(128, 128)))


def loss_and_gradients(experiment: Experiment, params, batch) -> tuple[Losses, np.ndarray]:
    """What a single device makes of the first step of a batch."""
    one = jax.tree.map(lambda x: x[0], batch)
    losses, grads = jax.jit(lambda p: gradients(experiment.loss, p, NO_VIEW, one))(params)
    return losses, flat(grads)


def shaken_state(experiment: Experiment) -> TrainState:
    """A state whose zero-initialised layers have been shaken, so that every gradient counts."""
    state = experiment.initial_state()
    leaves, tree = jax.tree.flatten(state.params)
    noise = [np.random.RandomState(i).normal(size=leaf.shape).astype(np.float32) for i, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(tree, [leaf + 0.05 * n for leaf, n in zip(leaves, noise)])
    return state._replace(params=params, averages={name: jax.tree.map(jnp.copy, params) for name in state.averages})


def drawn_params(experiment: Experiment) -> Any:
    """Parameters none of which is 0, drawn by the names of theirs: no network is initialised."""
    shapes = experiment.abstract_params()

    def draw(path: Any, leaf: Any) -> np.ndarray:
        random = np.random.RandomState(len(jax.tree_util.keystr(path)))
        return (0.03 + 0.1 * random.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def raw_gradients(
    experiment: Experiment, strategy: Strategy, microbatches: int, params, batch
) -> tuple[Losses, np.ndarray]:
    """What the step makes of a batch before clipping and Adam, which would hide a gradient N times too large."""

    def step(params, frozen, batches):
        one = jax.tree.map(lambda x: x[0], batches)
        losses, grads = gradients(
            strategy.wrap(experiment.loss), params, NO_VIEW, one, strategy.axis_name, microbatches
        )
        return grads, jax.tree.map(lambda x: x[None], losses)

    call = strategy.compile(step, params, {})
    grads, losses = call(strategy.place_state(params), strategy.place_batches(batch))
    losses = jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], losses)
    return losses, flat(collect(strategy.fetch_state(grads)))


def main(folder: str, address: str, process: str) -> None:
    jax.distributed.initialize(address, 2, int(process))
    experiment = shallow()
    params = drawn_params(experiment)
    batch = experiment.stream.batches(0, BATCH, 1, process_rows(BATCH))
    found = {"position": batch.position, "x": batch.x}
    for name, (make, microbatches) in WAYS.items():
        losses, found[name] = raw_gradients(experiment, make(), microbatches, params, batch)
        found[f"{name}_loss"] = losses.mean
    np.savez(pathlib.Path(folder) / f"{process}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
