"""Files that appear whole or not at all, and what is said of a disk that does not take them."""

import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from score_sde.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that is full, or fails: no fault of the directory's name, and nothing another one would mend."""


@contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path beside `path`, of the same ending, to write to; it takes the place of `path` when the block ends well.

    An OSError names `path`, where it names nothing: what a full disk makes a write raise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        with named(path):
            yield unfinished
            sync(unfinished)  # else a power cut may leave the name without the content
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def named(path: pathlib.Path) -> Iterator[None]:
    """An OSError from in here that names no file names this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def usable(name: str) -> Iterator[None]:
    """Turns an OSError into a UsageError that speaks of the directory of that name, but for a disk that is full."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UsageError(f"{name} cannot be used ({error.strerror or error}): choose another directory") from None


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
    """Return when the content of a file, or of a directory where the system knows that, is on the disk itself."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
