"""The loss on held-out images, of the parameters as they are and of their averages."""

from typing import Any

import jax
import numpy as np

from score_sde.data.stream import Batch
from score_sde.errors import require
from score_sde.experiment import Experiment
from score_sde.parallel import collect, replicate, spread
from score_sde.rng import positions


class HeldOut:
    """The mean training loss over held-out images without dropout and augmentation, always at the same t and noise.

    The first evaluation.num_images of them (0: all), in batches of at most training.batch_size, the last one padded.
    Raises UsageError where no image is held out.
    """

    def __init__(self, experiment: Experiment) -> None:
        c = experiment.config
        images = experiment.images.held_out
        require(
            len(images) > 0,
            f"evaluation.every={c.evaluation.every} asks for held-out images and data.name={c.data.name!r} has none:"
            " set data.held_out to a number of images, or evaluation.every=0",
        )
        self._count = min(c.evaluation.num_images or len(images), len(images))
        devices = jax.device_count()
        self._size = min(c.training.batch_size, -(-self._count // devices) * devices)
        self._images = images
        self._loss = jax.jit(lambda params, batch: experiment.loss(params, batch, held_out=True)[0])

    def __call__(self, weights: dict[str, Any]) -> dict[str, float]:
        """The loss of every set of weights, by its name."""
        return {name: self._mean(replicate(params)) for name, params in weights.items()}

    def _mean(self, params: Any) -> float:
        total = 0.0
        for first in range(0, self._count, self._size):
            indices = np.minimum(np.arange(first, first + self._size), self._count - 1)
            batch = Batch(self._images[indices], positions(first, self._size))
            losses = collect(self._loss(params, spread(batch)))
            total += float(np.sum(losses[: self._count - first], dtype=np.float64))
        return total / self._count
