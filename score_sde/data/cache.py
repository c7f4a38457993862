"""Pictures decoded once: a memory-mapped array on disk, written by whoever comes first and believed only if whole."""

import hashlib
import json
import math
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np

from score_sde.data.pictures import Encoded, Format, Pictures
from score_sde.data.sources import Source, gather
from score_sde.errors import CheckpointError, UsageError
from score_sde.progress import Progress
from score_sde.storage.files import FULL, whole
from score_sde.storage.locks import held

VERSION = 1
"""Of the decoding's arithmetic: raised when the same files would become other pixels."""

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


def decoded(pictures: Pictures, cache: Cache) -> Source:
    """The pictures as a memory-mapped array."""
    if len(pictures) == 0:
        return np.zeros(pictures.shape, np.uint8)
    form = pictures.format
    sides = [form.height] if form.width in (0, form.height) else [form.height, form.width]
    name = fingerprint(pictures.files.stamp(), [*sides, form.channels, form.crop])
    return stored(cache, name, pictures.shape, np.dtype(np.uint8), lambda: _decode(pictures))


def _decode(pictures: Pictures) -> Iterator[np.ndarray]:
    with Progress("decoding", len(pictures), "images") as progress:
        count = max(1, CHUNK // int(np.prod(pictures.shape[1:])))
        for first in range(0, len(pictures), count):
            images = gather(pictures, np.arange(first, min(first + count, len(pictures))))
            yield images
            progress.update(len(images))


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


@contextmanager
def _writable(cache: Cache) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise (CheckpointError if error.errno in FULL else UsageError)(
            f"data.cache={str(cache.path)!r} cannot be written ({error.strerror}): name another directory, or set"
            " data.cache_limit=0.0 to decode whenever an image is needed"
        ) from None
