"""Files that appear whole or not at all, and files that one process holds."""

import fcntl
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `path`, of the same ending, to write to; it takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        yield unfinished
        sync(unfinished)  # else a power cut may leave the name without the content
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new directory beside `path` to write to; it takes the place of `path`, if that is there, when the block ends.

    What is replaced stays until the new one is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f"unfinished-{path.name}-", dir=path.parent))
    try:
        yield unfinished
        for file in (p for p in unfinished.rglob("*") if p.is_file()):
            sync(file)
        unfinished.chmod(0o777 & ~_umask())
        if path.exists():
            os.replace(path, unfinished.with_name(f"{unfinished.name}-before"))
        os.replace(unfinished, path)
    finally:
        for left in (unfinished, unfinished.with_name(f"{unfinished.name}-before")):
            shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: pathlib.Path) -> None:
    """Return when the file's content is on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held(path: pathlib.Path, waiting: str = "") -> Iterator[int]:
    """A descriptor of the file, made if missing, locked against other processes until the block or this process ends.

    Where another holds it: says what is `waiting` for it, on stderr, and waits; raises BlockingIOError if that is
    empty. Raises another OSError where the file system knows no locks. The file stays: removed, it could be locked by
    one process and made anew and locked by another.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                raise
            print(waiting, file=sys.stderr, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


_held: set[int] = set()


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


# A lock belongs to every process that has inherited the descriptor: a forked worker would keep it beyond the parent.
os.register_at_fork(after_in_child=_let_go)
