"""Images gathered ahead by worker processes: the same bytes as without them, as every one is a function of its place.

A worker starts as a fresh Python, so what it needs is all in here and imports little.
"""

import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from multiprocessing import resource_tracker

import numpy as np

from score_sde.data.sources import Source
from score_sde.signals import ENDING


class Order:
    """Endless epochs over so many images, each in an order of its own: a function of the seed and the epoch."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self._epoch = functools.lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        seeds = np.random.SeedSequence([self.seed, epoch])
        return np.random.RandomState(np.random.MT19937(seeds)).permutation(self.length)

    def __call__(self, first: int, count: int) -> np.ndarray:
        """Which images stand at positions first .. first + count - 1."""
        found = []
        while count > 0:
            epoch, offset = divmod(first, self.length)
            part = self._epoch(epoch)[offset : offset + count]
            found.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(found)

    def __reduce__(self) -> tuple:
        return Order, (self.length, self.seed)


class _Steps:
    """What a worker does: the images of a step, by its number."""

    def __init__(self, source: Source, order: Order, steps: np.ndarray, rows: slice) -> None:
        self.source, self.order, self.steps, self.rows = source, order, steps, rows

    def __call__(self, step: int) -> np.ndarray:
        first, size = self.steps[step].tolist()
        return self.source[self.order(first, size)[self.rows]]


def gathered(source: Source, order: Order, steps: np.ndarray, rows: slice, workers: int) -> Generator[np.ndarray]:
    """The images uint8 [rows, H, W, C] of every step in turn; int64 [steps, 2] holds their first positions and sizes.

    Worker w of W gathers the steps w, w + W, ..., two ahead of where they are asked for. The workers end with the
    iterator: close it. They are spawned, so a program of one's own needs the `if __name__ == "__main__"` guard.
    """
    import grain.python as grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain asks for flags of its own, which no absl.app has parsed here
        flags.FLAGS.mark_as_parsed()
    dataset = grain.MapDataset.range(len(steps)).map(_Steps(source, order, steps, rows))
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    options = grain.MultiprocessingOptions(num_workers=min(workers, len(steps)), per_worker_buffer_size=1)
    iterator = iter(dataset.to_iter_dataset(reading).mp_prefetch(options, worker_init_fn=_end_with_parent))
    try:
        with _signals_blocked():  # grain starts its workers now, by threads that inherit the mask and pass it on
            first = np.array(next(iterator))
        yield first
        for _ in range(len(steps) - 1):
            yield np.array(next(iterator))  # a copy, so that shared memory is given back at once
    finally:
        iterator.close()
        del iterator
        _free_shared_memory()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """What ends a program waits, in this thread until the block ends and in processes started by it for good.

    A terminal's Ctrl-C and a cluster's SIGTERM go to all processes, but it is the program that ends its workers: it may
    need more batches until its checkpoint is written. A handler in the worker would come seconds too late. (Where
    signals cannot be blocked, as on Windows, it has to do: `_end_with_parent`.)
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    resource_tracker.ensure_running()  # a process too; its start lifts the block of all but SIGHUP
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(index: int, count: int) -> None:
    """End where the program ends, even if it was killed, and not by a signal of its own."""
    if not hasattr(signal, "pthread_sigmask") and threading.current_thread() is threading.main_thread():
        for signum in ENDING:
            signal.signal(signum, signal.SIG_IGN)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _free_shared_memory() -> None:
    """Let grain's thread free what shared memory is left, or the end of the program reports it as leaked.

    It is in reference cycles of the closed iterator, and then in the queue of that thread.
    """
    gc.collect()
    with contextlib.suppress(ImportError, AttributeError):  # it is not part of grain's interface
        from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

        if (thread := SharedMemoryArray._del_thread_pool) is not None:
            thread.apply(int)  # the only one, so all that was asked of it before is done
