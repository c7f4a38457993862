"""The training stream: example p of the run is a function of (seed, p) alone, so it needs no saved iterator."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from score_sde.rng import positions


class Batch(NamedTuple):
    """Images uint8 [..., B, H, W, C] and their global positions as two words, uint32 [..., B, 2]."""

    image: np.ndarray | jax.Array
    position: np.ndarray | jax.Array


class Stream:
    """Endless epochs over an array of images, each in an order of its own."""

    def __init__(self, images: np.ndarray, seed: int) -> None:
        self.images = images
        self.seed = seed
        self._order = functools.lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        seeds = np.random.SeedSequence([self.seed, epoch])
        return np.random.RandomState(np.random.MT19937(seeds)).permutation(len(self.images))

    def indices(self, first: int, count: int) -> np.ndarray:
        """Which images stand at positions first .. first + count - 1."""
        found = []
        while count > 0:
            epoch, offset = divmod(first, len(self.images))
            part = self._order(epoch)[offset : offset + count]
            found.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(found)

    def batches(self, first: int, size: int, steps: int, rows: slice | None = None) -> Batch:
        """`steps` batches of `size` examples from position `first` on: leading axes [steps, size]."""
        rows = slice(None) if rows is None else rows
        indices = self.indices(first, steps * size).reshape(steps, size)[:, rows]
        position = positions(first, steps * size).reshape(steps, size, 2)[:, rows]
        return Batch(self.images[indices], position)

    def calls(self, schedule, rows=None, workers=0):
        for first, size, steps in schedule:
            yield self.batches(first, size, steps, rows)
