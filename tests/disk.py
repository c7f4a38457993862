"""A disk that is full from the k-th write on, for what Python writes; and results that are damaged, as a disk does."""

import errno
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from score_sde.cli import modes
from score_sde.cli.main import unwritable

DAMAGES = ("cut", "flipped", "gone", "empty", "other bytes")


def damage(path: pathlib.Path, kind: str, place: float = 0.5) -> None:
    """Do this to a file, at a place in [0, 1)."""
    data = path.read_bytes()
    at = int(place * len(data))
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(data[:at])
    elif kind == "flipped":
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    else:
        path.write_bytes(b"" if kind == "empty" else b"\xff\xfe{\x00[" * 7)


class Disk:
    """How often was written, and from when on nothing more is."""

    def __init__(self, full_at: int, under: pathlib.Path) -> None:
        self.full_at, self.under, self.writes = full_at, under, 0

    def write(self, path: object = None) -> None:
        """Once more; OSError where the disk is full, which names a file where the system would."""
        self.writes += 1
        if self.writes >= self.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([] if path is None else [str(path)]))

    def has(self, path: object) -> bool:
        return not isinstance(path, int) and pathlib.Path(os.fsdecode(path)).is_relative_to(self.under)  # pyright: ignore


class _Raw(io.FileIO):
    disk: Disk

    def write(self, data):  # pyright: ignore
        self.disk.write()
        return super().write(data)


@contextmanager
def filling(full_at: int, under: pathlib.Path) -> Iterator[Disk]:
    """What is written below a directory counts: files opened to be written, bytes, directories, fsync."""
    disk, opened, made, forced, opened_low = Disk(full_at, under), io.open, os.mkdir, os.fsync, os.open
    raw_file = type("Raw", (_Raw,), {"disk": disk})

    def open_file(file, mode="r", buffering=-1, encoding=None, *args, **options):
        if not (set(mode) & set("wax+") and disk.has(file)):
            return opened(file, mode, buffering, encoding, *args, **options)
        disk.write(file)
        if options.get("opener"):  # as of temporary files
            return opened(file, mode, buffering, encoding, *args, **options)
        raw = raw_file(file, mode.replace("b", "").replace("t", ""))
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding)

    def make(path, *args, **options):
        if disk.has(path) and not os.path.exists(path):
            disk.write(path)
        return made(path, *args, **options)

    def low(path, flags, *args, **options):
        if flags & os.O_CREAT and disk.has(path) and not os.path.exists(path):
            disk.write(path)
        return opened_low(path, flags, *args, **options)

    def force(descriptor):
        disk.write()
        return forced(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        for place, name, function in (
            ("builtins", "open", open_file), ("io", "open", open_file), ("os", "mkdir", make), ("os", "open", low),
            ("os", "fsync", force),
        ):  # fmt: skip
            patch.setattr(f"{place}.{name}", function)
        yield disk


def filled_in_turn(act: Callable[[], int], place: pathlib.Path, ended: Callable[[], None], capfd, stride=1) -> int:
    """How many fills there were: the disk is full from every (or every so many-th) write below a new directory on.

    Each time exit code 5 and one sentence; with room again the same act ends well, which `ended` is to assert.
    """
    full_at, fills = 1, 0
    while True:
        shutil.rmtree(place, ignore_errors=True)
        with filling(full_at, place) as disk:
            code = exit_code(act)
        if disk.writes < full_at:
            return fills
        said = capfd.readouterr().err
        if code == 5:
            fills += 1
            assert said.count("\n") == 1 and "No space left on device" in said and "goes on" in said
        assert code in (0, 5)  # who holds the lock need not be said
        assert exit_code(act) == 0
        ended()
        capfd.readouterr()
        full_at += stride


class Halted(Exception):
    """A kill, at a chosen operation on files."""


def halting(monkeypatch, at: int):
    """Every replacement of a file, removal, directory and fsync counts; the one of that number does not happen."""
    done = []

    def counted(function):
        def act(*args, **kwargs):
            done.append(function)
            if len(done) == at:
                raise Halted
            return function(*args, **kwargs)

        return act

    for name in ("replace", "fsync", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    return done


def halted_in_turn(act: Callable[[], int], monkeypatch) -> int:
    """How many halts there were: each start of the act is halted one operation later than the one before."""
    at, halts = 1, 0
    while True:
        with monkeypatch.context() as patch:
            done = halting(patch, at)
            try:
                act()
                if len(done) < at:
                    return halts
            except Halted:
                halts += 1
        at += 1


def exit_code(act: Callable[[], int]) -> int:
    """As the command line ends."""
    try:
        return modes.ended(act)
    except OSError as error:
        return unwritable(error)
