"""Many samples from a trained model: batches of one compiled program, sample k a function of (seed, k)."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.devices.arrays import collect, replicate, spread
from score_sde.experiment.experiment import Experiment
from score_sde.progress import Progress
from score_sde.rng import example_keys, positions, root_key
from score_sde.systems.base import Params


class Generated(NamedTuple):
    """Samples [N, ...] in the data's units and dtype, their number of network evaluations, conditions, and the time.

    x: pictures are uint8 [N, H, W, C], real data float32. evaluations: the mean of counts, int32 [N]. condition: of
    every sample, by name, such as {"label": int32 [N]}. seconds: of every batch, the first one's with compiling.
    """

    x: np.ndarray
    evaluations: float
    counts: np.ndarray
    condition: dict[str, np.ndarray]
    seconds: tuple[float, ...]

    @property
    def images(self) -> np.ndarray:
        """x, of pictures."""
        return self.x


class Generator:
    """Draws samples by the config's `sampling` section, compiling its program once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._config = experiment, experiment.config

        def draw(params: Any, condition: Any, times: jax.Array | None, position: jax.Array) -> tuple[Any, Any]:
            keys = example_keys(root_key(self._config.sampling.seed), position)
            samples = experiment.draw(params, keys, condition, times)
            return experiment.kind.decode(samples.x), samples.evaluations

        self._draw: Callable = jax.jit(draw)
        self._times: Callable = jax.jit(experiment.times)

    def __call__(self, params: Params, count: int, *, show: bool = True) -> Generated:
        """Samples 0 .. count - 1 of sampling.seed, in batches of sampling.batch_size."""
        size, found, seconds = self._config.sampling.batch_size, [], []
        params = replicate(params)
        # Once for all batches, where it takes a pilot run.
        times = self._times(params) if self._config.sampling.times == "optimised" else None
        with Progress("sampling", count, "samples", show=show) as progress:
            for first in range(0, count, size):
                start = time.perf_counter()
                position = positions(first, size)
                condition = jax.tree.map(np.asarray, self._experiment.conditions(position))
                x, nfe = collect(self._draw(params, spread(condition), times, spread(position)))
                seconds.append(time.perf_counter() - start)
                used = min(size, count - first)
                batch = (x, np.broadcast_to(nfe, size), condition)
                found.append(jax.tree.map(lambda a, used=used: a[:used], batch))
                progress.update(used)
        x, counts, condition = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        return Generated(x, float(np.mean(counts)), counts, condition, tuple(seconds))
