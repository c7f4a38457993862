"""The loss on held-out examples, of the parameters as they are and of their averages."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from score_sde.data.sources import chosen, gather
from score_sde.data.stream import Batch
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.devices.precision import at
from score_sde.errors import require
from score_sde.experiment import Experiment
from score_sde.rng import positions


class HeldOut:
    """The mean training loss over held-out examples without dropout and augmentation, always at the same t and noise.

    Each is conditioned on what is its own.

    evaluation.num_images of them, a fixed choice (0: all), in batches of at most training.batch_size, the last one
    padded. Every batch is read and laid over the devices once, so all sets of weights lie whole on every device
    meanwhile. Raises UsageError where no image is held out.
    """

    def __init__(self, experiment: Experiment) -> None:
        c = experiment.config
        images = experiment.data.held_out
        require(
            len(images) > 0,
            f"evaluation.every={c.evaluation.every} asks for held-out images and data.name={c.data.name!r} has none:"
            " set data.held_out to a number of images, or evaluation.every=0",
        )
        self._numbers = chosen(len(images), c.evaluation.num_images or len(images))
        devices = jax.device_count()
        self._size = min(c.training.batch_size, -(-len(self._numbers) // devices) * devices)
        self._images, self._condition = images, experiment.chosen(experiment.data.held_out_condition)
        self._frozen = experiment.frozen_params
        self._loss = jax.jit(at(c.evaluation.precision, experiment.held_out_loss))

    def __call__(self, weights: dict[str, Any]) -> dict[str, float]:
        """The loss of every set of weights, by its name."""
        (placed, frozen), totals = replicate((weights, self._frozen)), dict.fromkeys(weights, 0.0)
        for count, batch in self._batches():
            losses = collect({name: self._loss(params, frozen, batch) for name, params in placed.items()})
            for name in totals:
                totals[name] += float(np.sum(losses[name][:count], dtype=np.float64))
        return {name: total / len(self._numbers) for name, total in totals.items()}

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        """How many of a batch's images count, and the batch on the devices; the last image fills up the last one."""
        for first in range(0, len(self._numbers), self._size):
            numbers = self._numbers[first : first + self._size]
            padded = np.pad(numbers, (0, self._size - len(numbers)), mode="edge")
            condition = {name: gather(source, padded) for name, source in self._condition.items()}
            yield len(numbers), spread(Batch(gather(self._images, padded), positions(first, self._size), condition))
