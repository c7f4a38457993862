"""TFRecord files read without TensorFlow: an index of where every record is, made once, and reading by number.

A record is the length of its data (uint64), that number's checksum, the data, and their checksum; the numbers are
little-endian, the checksums masked CRC32C. Nothing in a file says where its records begin: hence the index.
"""

import dataclasses
import functools
import os
import pathlib
import struct
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from score_sde.data.cache import Cache, fingerprint, stored
from score_sde.data.pictures import state
from score_sde.errors import UsageError, require
from score_sde.progress import Progress

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
KEPT = 64 if hasattr(os, "pread") else 0
"""Files of a set that stay open; of a set of more, the others are opened for every reading."""

REMEDY = "copy, download or write the file anew"


@dataclasses.dataclass(frozen=True, eq=False)
class TFRecords:
    """The records of TFRecord files by number, in the order of the files.

    They are read by position, so any number of threads and forked processes share the descriptors; an unpickled copy
    opens its own.
    """

    paths: tuple[str, ...]
    table: np.ndarray
    """Number of the file, offset of the record, length of its data: int64 [N, 3]."""

    def __len__(self) -> int:
        return len(self.table)

    def name(self, index: int) -> str:
        """The file and the offset of a record."""
        file, at, _ = self.table[index].tolist()
        return _name(self.paths[file], at)

    def __getitem__(self, index: int) -> bytes:
        """The data of a record; UsageError, naming file and offset, where it is cut or a checksum is wrong."""
        file, at, length = self.table[index].tolist()
        record = self._read(file, HEADER.size + length + FOOTER.size, at)
        data = record[HEADER.size : -FOOTER.size]
        if _length(record[: HEADER.size], self.paths[file], at) != length or len(data) != length:
            raise UsageError(f"{self.name(index)} is cut, or the file has changed: {REMEDY}, and start again")
        if FOOTER.pack(_checksum(data)) != record[-FOOTER.size :]:
            raise UsageError(f"{self.name(index)} is damaged (wrong checksum of its data): {REMEDY}")
        return data

    def stamp(self) -> list:
        """Path, size and time of modification of every file."""
        return [(os.path.abspath(path), *state(path)) for path in self.paths]

    def _read(self, file: int, count: int, at: int) -> bytes:
        try:
            descriptor = self._descriptor(file)
            if descriptor is not None:
                return os.pread(descriptor, count, at)
            with open(self.paths[file], "rb") as opened:
                opened.seek(at)
                return opened.read(count)
        except OSError as error:
            raise UsageError(f"{self.paths[file]} cannot be read ({error.strerror}): put it back") from None

    def _descriptor(self, file: int) -> int | None:
        """Of one of the files that stay open; None for the others."""
        opened = self._opened
        if file not in opened and len(opened) < KEPT:
            mine = os.open(self.paths[file], os.O_RDONLY)
            if opened.setdefault(file, mine) != mine:  # another thread was faster
                os.close(mine)
        return opened.get(file)

    @functools.cached_property
    def _opened(self) -> dict[int, int]:
        opened: dict[int, int] = {}
        weakref.finalize(self, _close, opened)
        return opened

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}


def _close(opened: dict[int, int]) -> None:
    while opened:
        os.close(opened.popitem()[1])


def indexed(paths: Sequence[str], cache: Cache) -> TFRecords:
    """The records of the files, found by their headers; once for all processes, as the cache keeps the index.

    With a cache whose limit is 0 they are looked for every time, and nothing is written. Raises UsageError for a file
    that is missing, empty or cut, and for a wrong checksum of a length.
    """
    states = [(os.path.abspath(path), *state(path)) for path in paths]
    sizes = [size for _, size, _ in states]
    require(any(sizes), f"{paths[0]} is empty: {REMEDY}")
    scan = lambda: _scan(paths, sizes)
    if cache.limit == 0:
        table = np.concatenate([*scan()])
    else:
        table = stored(cache, fingerprint("TFRecord index", states), (None, 3), np.dtype(np.int64), scan)
    return TFRecords(tuple(paths), np.asarray(table))


def _scan(paths: Sequence[str], sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """The rows of every file's records: int64 [n, 3]."""
    with Progress("indexing records", sum(sizes), "bytes") as progress:
        for number, (path, size) in enumerate(zip(paths, sizes)):
            places = ((number, at, length) for at, length in _places(path, size, progress))
            yield np.fromiter(places, np.dtype((np.int64, 3)))


def _places(path: str, size: int, progress: Progress) -> Iterator[tuple[int, int]]:
    """Offset and length of every record, from header to header."""
    at = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while at < size:
                file.seek(at)
                length = _length(file.read(HEADER.size), path, at)
                end = at + HEADER.size + length + FOOTER.size
                if end > size:
                    raise UsageError(f"{_name(path, at)} is cut (it ends at {end}, the file at {size}): {REMEDY}")
                yield at, length
                progress.update(end - at)
                at = end
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from None


def _name(path: str, at: int) -> str:
    return f"{path}: the record at byte {at}"


def _length(header: bytes, path: str, at: int) -> int:
    """The length of a record's data by its header; UsageError where that is cut or its checksum is wrong."""
    if len(header) < HEADER.size:
        raise UsageError(f"{_name(path, at)} is cut (within its header): {REMEDY}")
    length, checksum = HEADER.unpack(header)
    if _checksum(header[:8]) != checksum:
        packed = at == 0 and header[:2] == b"\x1f\x8b"
        remedy = "unpack the file with gunzip" if packed else REMEDY
        raise UsageError(f"{_name(path, at)} is damaged (wrong checksum of its length): {remedy}")
    return length


def _checksum(data: bytes) -> int:
    """CRC32C rotated and shifted, as a checksum of data that contain checksums is weak."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_header(place: pathlib.Path) -> bool:
    """Whether a file begins as TFRecords do: a length with its checksum."""
    try:
        with place.open("rb") as file:
            header = file.read(HEADER.size)
    except OSError:
        return False
    return len(header) == HEADER.size and _checksum(header[:8]) == HEADER.unpack(header)[1]
