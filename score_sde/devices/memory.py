"""Memory that has been freed, handed back to the operating system, and the collector of garbage kept from tracing."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection of garbage in the block: tracing makes millions of objects that stay, looked through each time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def release() -> None:
    """Hand back what the C library keeps of freed memory; nothing where it is not glibc.

    XLA's compiler frees hundreds of MB which glibc keeps for more small objects, and large arrays do not fit into its
    holes: unreturned, they add to the peak of whatever runs next.
    """
    gc.collect()
    trim()


def trim() -> None:
    """What `release` does, but for the collection, which stops all threads."""
    if sys.platform != "linux":
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
