"""Locks between programs: of a file, and of a folder that one alone may write. Whoever reads needs none."""

import datetime
import errno
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from filelock import FileLock, Timeout

from score_sde.errors import UsageError
from score_sde.storage.files import usable

LOCK, HOLDER = "lock", "lock.json"
"""What is locked, and who has locked it: a file of its own, as Windows lets nobody read a locked one."""

LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def held(path: pathlib.Path, waiting: str = "") -> Iterator[None]:
    """The file, made if missing, locked against other processes until the block or this process ends.

    Where another holds it: says what is `waiting` for it, on stderr, and waits; raises BlockingIOError if that is
    empty. Raises another OSError where the file system knows no locks. The file stays: removed, it could be locked by
    one process and made anew and locked by another. Forked workers do not hold it.
    """
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if not waiting:
            raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from None
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked(folder: pathlib.Path, name: str = "") -> Iterator[None]:
    """Keep other programs from writing a folder, made if missing, until the block, or this process, ends.

    Of several processes of a run the first alone takes it. name: what a user calls the folder. Raises UsageError where
    another holds it, with who that is; where the file system has no locks, a line says so.
    """
    name = name or str(folder)
    with ExitStack() as stack:
        with usable(name):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(held(folder / LOCK))
            except BlockingIOError:
                raise UsageError(_held_by(folder, name)) from None
            except OSError as error:
                if error.errno not in LOCKLESS:
                    raise
                print(f"{folder} cannot be locked: start no other program that writes there", file=sys.stderr)
            else:
                stack.enter_context(_said_who(folder / HOLDER))
        yield


@contextmanager
def _said_who(path: pathlib.Path) -> Iterator[None]:
    """Who this is stands in the file; on a full disk nobody is told."""
    with suppress(OSError):
        path.write_text(json.dumps(_this_process()) + "\n", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _held_by(folder: pathlib.Path, name: str) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_bytes())
        who = f"process {holder['pid']} on {holder['host']}, since {holder['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return f"{name} is being written by {who}: wait for it, stop it, or choose another directory"


def _this_process() -> dict[str, Any]:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": platform.node(), "pid": os.getpid(), "started": started}
