"""Signals that ask a program to end, collected until it can: what has begun is finished, and kept, first."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
"""SIGHUP is a terminal that is closed; Windows has none."""

ECHO = 2.0
"""Seconds in which a signal is taken for the first one again: GNU timeout and others send it to process and group."""


class Stopped(Exception):
    """A signal ended the work, which was left so that the same command goes on with it."""

    def __init__(self, signum: int, after: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after {after}; the same command resumes")
        self.signum = signum
        self.code = 128 + signum
        """What a shell says of a program that the signal ended: 129, 130 or 143."""


class Caught:
    """The first signal that came, 0 while none has."""

    signum: int = 0


@contextmanager
def collected() -> Iterator[Caught]:
    """Collect SIGTERM, SIGINT and SIGHUP instead of dying of them; a later one ends the program as usual.

    A SIGHUP that is ignored, as under nohup, stays so. No-op off the main thread.
    """
    caught = Caught()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    terminals = [descriptor for descriptor in (1, 2) if _is_terminal(descriptor)]
    since = 0.0

    def note(signum: int, frame: Any) -> None:
        nonlocal since
        for descriptor in terminals:
            if not _is_terminal(descriptor):  # closed: whatever is said from now on would be an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if not caught.signum:
            since = time.monotonic()
            caught.signum = signum
        elif time.monotonic() - since > ECHO:
            signal.signal(signum, previous[signum])
            signal.raise_signal(signum)

    previous = {s: signal.signal(s, note) for s in ENDING if not _ignored(s)}
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _ignored(signum: int) -> bool:
    """Whether a closed terminal shall not end this program."""
    return signum == getattr(signal, "SIGHUP", None) and signal.getsignal(signum) is signal.SIG_IGN


def _is_terminal(descriptor: int) -> bool:
    """Whether there is a terminal now; of one that was closed there is not."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
