"""The training stream: example p of the run is a function of (seed, p) alone, so it needs no saved iterator."""

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import NamedTuple

import jax
import numpy as np

from score_sde.data.sources import Source, gather, is_array
from score_sde.data.workers import Order, gathered
from score_sde.rng import positions


class Batch(NamedTuple):
    """Images uint8 [..., B, H, W, C] and their global positions as two words, uint32 [..., B, 2]."""

    image: np.ndarray | jax.Array
    position: np.ndarray | jax.Array


class Stream:
    """Endless epochs over a source of images, each in an order of its own."""

    def __init__(self, images: Source, seed: int) -> None:
        self.images = images
        self.seed = seed
        self._order = Order(len(images), seed)

    def indices(self, first: int, count: int) -> np.ndarray:
        """Which images stand at positions first .. first + count - 1."""
        return self._order(first, count)

    def batches(self, first: int, size: int, steps: int, rows: slice | None = None) -> Batch:
        """`steps` batches of `size` examples from position `first` on: leading axes [steps, size].

        Of every batch only the given rows, one process's part: leading axes [steps, number of rows].
        """
        chosen = self.indices(first, steps * size).reshape(steps, size)[:, rows or slice(None)]
        image = gather(self.images, chosen.reshape(-1))
        return Batch(image.reshape(chosen.shape + image.shape[1:]), _positions(first, size, steps, rows))

    def calls(
        self, schedule: Iterable[tuple[int, int, int]], rows: slice | None = None, workers: int = 0
    ) -> Generator[Batch]:
        """The batches of every (first, size, steps) of the schedule in turn, the same bits whatever the workers.

        Without workers an image is read when its call is asked for, a large one decoded by threads. Workers read
        ahead; the schedule is then read to its end at once. Arrays need no decoding, so they get no workers. Close
        the iterator where it is not read to its end.
        """
        if workers == 0 or is_array(self.images):
            yield from (self.batches(*call, rows) for call in schedule)
            return
        todo = np.fromiter(schedule, np.dtype((np.int64, 3)))
        if not len(todo):
            return
        with closing(gathered(self.images, self._order, _steps(todo), rows or slice(None), workers)) as images:
            for call in todo:
                first, size, count = call.tolist()
                yield Batch(np.stack([next(images) for _ in range(count)]), _positions(first, size, count, rows))


def _steps(calls: np.ndarray) -> np.ndarray:
    """First position and size of every step [steps, 2] of calls [calls, 3]."""
    first, size, count = calls.T
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    size = np.repeat(size, count)
    return np.stack([np.repeat(first, count) + within * size, size], axis=-1)


def _positions(first: int, size: int, steps: int, rows: slice | None) -> np.ndarray:
    return positions(first, steps * size).reshape(steps, size, 2)[:, rows or slice(None)]
