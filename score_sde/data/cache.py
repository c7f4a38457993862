"""Pictures decoded once: a memory-mapped array on disk, written by whoever comes first and believed only if whole."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from score_sde.data.pictures import Encoded, Format, Pictures, look
from score_sde.data.ranges import PLAIN, Extremes, Ranges
from score_sde.data.sources import gather
from score_sde.errors import CheckpointError, UsageError
from score_sde.progress import Progress
from score_sde.storage.files import FULL, whole
from score_sde.storage.locks import held

VERSION = 1
"""Of the decoding's arithmetic: raised when the same files would become other pixels."""

NAME = re.compile(r"[0-9a-f]{32}\.npy")
"""Files of arrays."""

CHUNK = 2**26
"""Bytes of images decoded between two writes."""


class Cache(NamedTuple):
    """Where decoded sets are kept ("": the user's cache directory) and how large they may be in GiB."""

    directory: str = ""
    limit: float = 8.0

    @property
    def path(self) -> pathlib.Path:
        """The directory."""
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "score_sde" / "data"
        return pathlib.Path(self.directory or home).expanduser()


def gibibytes(found: Encoded, form: Format) -> float:
    """GiB that a set takes when decoded, its held-out pictures included."""
    return (len(found.train) + len(found.held_out)) * math.prod(form.shape) / 2**30


def fits(found: Encoded, form: Format, cache: Cache) -> bool:
    """Whether a set may be stored; one that may not leaves nothing in the cache, not even its labels."""
    return gibibytes(found, form) <= cache.limit


def decoded(pictures: Pictures, cache: Cache) -> np.ndarray:
    """The pictures as a memory-mapped array; where they are decoded now, a note of their values is beside it."""
    return _Part.of(pictures, cache).array(pictures.ranges)


def measured(parts: Sequence[Pictures], cache: Cache, asked: Ranges) -> tuple[list[np.ndarray], Extremes]:
    """Pictures as memory-mapped arrays, and the values that are known of all of them together.

    By the ranges that are asked for; of depths without one, by the least that hold the values of all parts. Then
    they are decoded by plain ranges, and again only where these do not do. Raises UsageError where none does.
    """
    own, seen = [_Part.of(part, cache) for part in parts], Extremes()
    complete = PLAIN.keys() <= asked.keys()
    tried = [(None, None) if complete else part.tried(asked) for part in own]
    for _, extremes in tried:
        seen.add(extremes or Extremes())
    ranges = PLAIN | seen.ranges(asked)
    arrays = [part.array(ranges) if array is None or ranges != PLAIN else array for part, (array, _) in zip(own, tried)]
    for part in own if complete else ():
        seen.add(part.noted() or Extremes())
    return arrays, seen


class _OtherRangesError(Exception):
    """What was to be decoded by plain ranges does not lie in these."""

    def __init__(self, seen: Extremes) -> None:
        super().__init__()
        self.seen = seen


class _Part(NamedTuple):
    """Pictures that are kept decoded, under names of what they are made of and of the ranges of their values."""

    pictures: Pictures
    cache: Cache
    stamp: list

    @classmethod
    def of(cls, pictures: Pictures, cache: Cache) -> "_Part":
        """Their files are looked at once."""
        return cls(pictures, cache, pictures.files.stamp() if len(pictures) else [])

    def name(self, ranges: Ranges) -> str:
        """Of the array; with plain ranges that of earlier versions."""
        form = self.pictures.format
        sides = [form.height] if form.width in (0, form.height) else [form.height, form.width]
        others = {depth: found for depth, found in ranges.items() if found != PLAIN[depth]}
        return fingerprint(self.stamp, [*sides, form.channels, form.crop], *([others] if others else []))

    def array(self, ranges: Ranges, trying: Ranges | None = None) -> np.ndarray:
        """Memory-mapped. trying: what is asked for, where it is not known yet that plain ranges do.

        Then raises _OtherRangesError where they do not, and keeps nothing.
        """
        shape = self.pictures.shape
        if shape[0] == 0:
            return np.zeros(shape, np.uint8)
        parts = lambda: self._decode(ranges, trying)
        return stored(self.cache, self.name(ranges), shape, np.dtype(np.uint8), parts)

    def _decode(self, ranges: Ranges, trying: Ranges | None) -> Iterator[np.ndarray]:
        """Some images at a time."""
        if trying is not None and (known := self.noted()) is not None:  # by another process, while we waited
            _check_plain(known, trying)
        seen, count = Extremes(), self.pictures.shape[0]
        looking = dataclasses.replace(self.pictures, ranges=ranges, seen=seen)
        with Progress("decoding", count, "images") as progress:
            size = max(1, CHUNK // math.prod(looking.shape[1:]))
            for first in range(0, count, size):
                images = gather(looking, np.arange(first, min(first + size, count)))
                yield images
                progress.update(len(images))
        self._note(seen)
        if trying is not None:
            _check_plain(seen, trying)

    def tried(self, asked: Ranges) -> tuple[np.ndarray | None, Extremes]:
        """The values of the pictures, and their array by plain ranges if it was opened for these and may do."""
        if (seen := self.noted()) is not None:
            return None, seen
        try:
            array = self.array(PLAIN, trying=asked)
        except _OtherRangesError as error:
            return None, error.seen
        if not len(array):
            return array, Extremes()
        return array, self.noted() or self._looked(array)

    def _looked(self, array: np.ndarray) -> Extremes:
        """The values of what an earlier version decoded: where its array is of bytes above 1, often from headers."""
        most, depths, (files, form) = int(array.max()), set(), (self.pictures.files, self.pictures.format)
        seen = Extremes({"uint8": (0, 255)} if most > 1 else {})
        with Progress("looking", len(array), "images") as progress:
            for index in range(len(array)):
                depths.add(look(files.read(index), form, files.name(index), seen))
                progress.update(1)
        if most > 1:
            del seen.found["uint8"]
            if "uint8" in depths:
                seen.see("uint8", 0, most)
        with _writable(self.cache):
            self._note(seen)
        return seen

    @property
    def _notes(self) -> pathlib.Path:
        return self.cache.path / f"{self.name(PLAIN)}.json"

    def _note(self, seen: Extremes) -> None:
        with whole(self._notes) as unfinished:
            unfinished.write_text(json.dumps(seen.found))

    def noted(self) -> Extremes | None:
        """The values of pictures that were decoded before, whatever their ranges were."""
        try:
            return Extremes(json.loads(self._notes.read_text()))
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def _check_plain(seen: Extremes, asked: Ranges) -> None:
    if PLAIN | seen.ranges(asked) != PLAIN:
        raise _OtherRangesError(seen)


def fingerprint(*facts: object) -> str:
    """A name for what the JSON-able facts describe."""
    return hashlib.sha256(json.dumps([VERSION, *facts]).encode()).hexdigest()[:32]


def stored(
    cache: Cache, name: str, shape: tuple[int | None, ...], dtype: np.dtype, parts: Callable[[], Iterator[np.ndarray]]
) -> np.ndarray:
    """The array of that name, memory-mapped; where there is none that is whole, of the parts, once for all processes.

    Where the shape begins with None it has as many rows as the parts, which are then in memory together before they
    are written. Raises UsageError, naming data.cache, where it cannot be written.
    """
    path = cache.path / f"{name}.npy"
    if (array := _whole_array(path, shape, dtype)) is not None:
        return array
    with ExitStack() as stack:
        with _writable(cache):
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"waiting for another process, which is writing {path}"
            stack.enter_context(held(path.with_suffix(".lock"), waiting))
        if (array := _whole_array(path, shape, dtype)) is None:  # nobody made it while we waited
            made = parts()
            if shape[0] is None:
                rows = np.concatenate([*made])
                shape, made = rows.shape, iter([rows])
            _write(cache, path, shape, dtype, made)
            array = _whole_array(path, shape, dtype)
    assert array is not None
    return array


def _write(
    cache: Cache, path: pathlib.Path, shape: tuple[int | None, ...], dtype: np.dtype, parts: Iterator[np.ndarray]
) -> None:
    """An .npy file with the checksum of its array behind it, where np.load does not look.

    Written part by part: in a mapped file a full disk would be a bus error.
    """
    checksum = 0
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with _writable(cache), whole(path) as unfinished, unfinished.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            data = np.ascontiguousarray(part, dtype).data
            checksum = zlib.crc32(data, checksum)
            file.write(data)
        file.write(checksum.to_bytes(4, "little"))


def _whole_array(path: pathlib.Path, shape: tuple[int | None, ...], dtype: np.dtype) -> np.ndarray | None:
    """The mapped array of a file that is just as it was written, else None. Reads it once (about 1 s per GB).

    Of a shape that begins with None it may have any number of rows.
    """
    try:
        array = np.load(path, mmap_mode="r")
        end = array.offset + array.nbytes
        with path.open("rb") as file:
            file.seek(end)
            checksum = file.read()
    except (OSError, ValueError, EOFError):
        return None
    if (array.shape[1:], array.dtype, len(checksum)) != (shape[1:], dtype, 4):
        return None
    if shape[0] not in (None, *array.shape[:1]):
        return None
    return array if zlib.crc32(array.data) == int.from_bytes(checksum, "little") else None


def checksum(array: np.ndarray) -> int | None:
    """The CRC-32 of an array that `stored` has returned, from behind it in its file; None for any other one."""
    if not isinstance(array, np.memmap) or not array.filename or not NAME.fullmatch(os.path.basename(array.filename)):
        return None
    with open(array.filename, "rb") as file:
        file.seek(array.offset + math.prod(array.shape) * array.itemsize)
        found = file.read()
    return int.from_bytes(found, "little") if len(found) == 4 else None


@contextmanager
def _writable(cache: Cache) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (CheckpointError if error.errno in FULL else UsageError)(
            f"data.cache={str(cache.path)!r} cannot be written ({error.strerror}): name another directory, or set"
            " data.cache_limit=0.0 to decode whenever an image is needed"
        ) from None
