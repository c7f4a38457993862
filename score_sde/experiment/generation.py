"""Many samples from a trained model: batches of one compiled program, sample k a function of (seed, k)."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.data.augment import to_uint8
from score_sde.devices.arrays import collect, replicate, spread
from score_sde.experiment import Experiment
from score_sde.progress import Progress
from score_sde.rng import example_keys, positions, root_key


class Generated(NamedTuple):
    """Images uint8 [N, H, W, C], the mean number of network evaluations, each image's own (int32 [N]), and the time.

    seconds: of every batch; the first one's are those of compiling.
    """

    images: np.ndarray
    evaluations: float
    counts: np.ndarray
    seconds: tuple[float, ...]


class Generator:
    """Draws samples by the config's `sampling` section, compiling its program once."""

    def __init__(self, experiment: Experiment) -> None:
        self._config = experiment.config
        data = self._config.data

        def draw(params: Any, times: jax.Array | None, position: jax.Array) -> tuple[jax.Array, jax.Array]:
            samples = experiment.draw(params, example_keys(root_key(self._config.sampling.seed), position), times)
            images = to_uint8(samples.x, dequantization=data.uniform_dequantization, centered=data.centered)
            return images, samples.evaluations

        self._draw: Callable = jax.jit(draw)
        self._times: Callable = jax.jit(experiment.times)

    def __call__(self, params: Any, count: int, *, show: bool = True) -> Generated:
        """Samples 0 .. count - 1 of sampling.seed, in batches of sampling.batch_size."""
        size, images, evaluations, seconds = self._config.sampling.batch_size, [], [], []
        params = replicate(params)
        # Once for all batches, where it takes a pilot run.
        times = self._times(params) if self._config.sampling.times == "optimised" else None
        with Progress("sampling", count, "samples", show=show) as progress:
            for first in range(0, count, size):
                start = time.perf_counter()
                x, nfe = collect(self._draw(params, times, spread(positions(first, size))))
                seconds.append(time.perf_counter() - start)
                used = min(size, count - first)
                images.append(x[:used])
                evaluations.append(np.broadcast_to(nfe, size)[:used])
                progress.update(used)
        counts = np.concatenate(evaluations)
        return Generated(np.concatenate(images), float(np.mean(counts)), counts, tuple(seconds))
