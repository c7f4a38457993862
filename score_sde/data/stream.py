"""The training stream: example p of the run is a function of (seed, p) alone, so it needs no saved iterator."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.data.sources import Source, gather, is_array
from score_sde.data.workers import Order, gathered
from score_sde.rng import positions


class Batch(NamedTuple):
    """Examples x as stored [..., B, ...], their global positions as two words, uint32 [..., B, 2], their conditions.

    condition: by name, such as {"label": int32 [..., B]}.
    """

    x: np.ndarray | jax.Array
    position: np.ndarray | jax.Array
    condition: dict[str, Any] = {}  # noqa: RUF012


class Stream:
    """Endless epochs over a source of examples [N, ...] and what conditions them, each epoch in its own order."""

    def __init__(self, source: Source, seed: int, condition: Mapping[str, Source] | None = None) -> None:
        self.source = source
        self.seed = seed
        self.condition = dict(condition or {})
        self._order = Order(len(source), seed)

    def indices(self, first: int, count: int) -> np.ndarray:
        """Which examples stand at positions first .. first + count - 1: their numbers in the source [count]."""
        return self._order(first, count)

    def batches(self, first: int, size: int, steps: int, rows: slice | None = None) -> Batch:
        """`steps` batches of `size` examples from position `first` on: leading axes [steps, size].

        Of every batch only the given rows, one process's part: leading axes [steps, number of rows].
        """
        chosen = self.indices(first, steps * size).reshape(steps, size)[:, rows or slice(None)]
        return Batch(_rows(self.source, chosen), _positions(first, size, steps, rows), self._conditions(chosen))

    def calls(
        self, schedule: Iterable[tuple[int, int, int]], rows: slice | None = None, workers: int = 0
    ) -> Generator[Batch]:
        """The batches of every (first, size, steps) of the schedule in turn, the same bits whatever the workers.

        Without workers a picture is read when its call is asked for, a large one decoded by threads. Workers read
        ahead; the schedule is then read to its end at once. Arrays need no decoding, so they get no workers. Close
        the iterator where it is not read to its end.
        """
        if workers == 0 or is_array(self.source):
            yield from (self.batches(*call, rows) for call in schedule)
            return
        todo = np.fromiter(schedule, np.dtype((np.int64, 3)))
        if not len(todo):
            return
        with closing(gathered(self.source, self._order, _steps(todo), rows or slice(None), workers)) as found:
            for call in todo:
                first, size, count = call.tolist()
                chosen = self.indices(first, count * size).reshape(count, size)[:, rows or slice(None)]
                x = np.stack([next(found) for _ in range(count)])
                yield Batch(x, _positions(first, size, count, rows), self._conditions(chosen))

    def _conditions(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        return {name: _rows(source, chosen) for name, source in self.condition.items()}


def _rows(source: Source, chosen: np.ndarray) -> np.ndarray:
    """The examples with these numbers [steps, size]: [steps, size, ...]."""
    x = gather(source, chosen.reshape(-1))
    return x.reshape(chosen.shape + x.shape[1:])


def _steps(calls: np.ndarray) -> np.ndarray:
    """First position and size of every step [steps, 2] of calls [calls, 3]."""
    first, size, count = calls.T
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    size = np.repeat(size, count)
    return np.stack([np.repeat(first, count) + within * size, size], axis=-1)


def _positions(first: int, size: int, steps: int, rows: slice | None) -> np.ndarray:
    return positions(first, steps * size).reshape(steps, size, 2)[:, rows or slice(None)]
