"""The lock of a folder for all processes of a run, of which the first one writes."""

import pathlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import jax

from score_sde.devices.distributed import together
from score_sde.storage.locks import locked


@contextmanager
def writing(folder: pathlib.Path, name: str = "") -> Iterator[bool]:
    """Hold the folder's lock in the first process (`locks.locked`) until the block ends; whether this is that one.

    Every process calls it. Raises UsageError in all of them where another program holds it.
    """
    first = jax.process_index() == 0
    with ExitStack() as stack:
        together(lambda: stack.enter_context(locked(folder, name)) if first else None)
        yield first
