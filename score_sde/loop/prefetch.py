"""Batches made and put on the devices by a thread, ahead of the calls that consume them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

_END = object()


class Prefetch:
    """The items of an iterator, each passed through `place`, up to `depth` of them ahead; use it in a with statement.

    `waited` counts the seconds that the consumer stood waiting for an item, but for the first: nothing is ahead of it.
    """

    def __init__(self, items: Iterator[Any], place: Callable[[Any], Any], depth: int = 2) -> None:
        self.waited, self._started = 0.0, False
        self._items, self._place = items, place
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._offer(self._place(item)):
                    return
            self._offer(_END)
        except BaseException as error:  # whatever it is, the consumer raises it
            self._offer(error)

    def _offer(self, item: Any) -> bool:
        """Put the item as soon as there is room; False once nobody wants it any more."""
        while not self._closing.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> "Prefetch":
        return self

    def __next__(self) -> Any:
        start = time.monotonic()
        item = self._queue.get()
        self.waited += (time.monotonic() - start) * self._started
        self._started = True
        if item is _END:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()
        close = getattr(self._items, "close", None)
        if close is not None:
            close()
