"""Arrays on disk that are made a block of rows at a time, each sealed by what it holds: what is lost is made again."""

import hashlib
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from score_sde.storage.files import named, whole
from score_sde.storage.seals import decode, encode

NAME = "blocks.json"
Rows = Mapping[str, tuple[tuple[int, ...], str]]
"""The shape and dtype of one row of every array, by name."""


class Blocks:
    """<name>.npy of arrays of `count` rows, and blocks.json, which has the SHA-256 of every block that is whole.

    settings: of JSON, what decides the rows: those of other settings count for nothing. size: rows of a block, the last
    one's perhaps fewer; of a folder that was begun, what it was begun with. Killed while a block is written, it counts
    as not there. Whoever writes holds the run's lock; readers are free.
    """

    def __init__(self, folder: pathlib.Path, rows: Rows, count: int, size: int, settings: dict[str, Any]) -> None:
        self._folder, self._rows, self.count = folder, dict(rows), count
        settings = json.loads(json.dumps({**settings, "count": count}))
        path = folder / NAME
        found = (decode(path.read_bytes()) if path.is_file() else None) or {}
        ours = found.get("settings") == settings
        self._written = found if ours else {"settings": settings, "size": size, "blocks": {}}
        self.size = self._written["size"]

    def lacking(self) -> list[int]:
        """The numbers of the first rows of all blocks that are not there, or not what was written."""
        firsts, sealed = range(0, self.count, self.size), self._written["blocks"]
        if not all(self._is_array(name) for name in self._rows):
            return list(firsts)
        arrays = self.arrays()
        rows = lambda first: {name: array[first : first + self.size] for name, array in arrays.items()}
        return [first for first in firsts if sealed.get(str(first)) != _digest(rows(first))]

    def write(self, first: int, arrays: Mapping[str, np.ndarray]) -> None:
        """A block from row `first` on, onto the disk, and sealed. Raises OSError."""
        for name, rows in arrays.items():
            if not self._is_array(name):
                self._make(name)
            path = self._path(name)
            with named(path), path.open("r+b") as file:
                file.seek((first - self.count) * self._row_bytes(name), os.SEEK_END)
                file.write(np.ascontiguousarray(rows).data)
                file.flush()
                os.fsync(file.fileno())
        self._written["blocks"][str(first)] = _digest(arrays)
        with whole(self._folder / NAME) as unfinished:
            unfinished.write_bytes(encode(self._written))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them, read from the files where they are used."""
        return {name: self._mapped(name) for name in self._rows}

    def _mapped(self, name: str) -> np.ndarray:
        shape, dtype = self._rows[name]
        offset = len(self._header(name))
        return np.memmap(self._path(name), dtype, "r", offset, (self.count, *shape))

    def _path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.npy"

    def _row_bytes(self, name: str) -> int:
        shape, dtype = self._rows[name]
        return math.prod(shape) * np.dtype(dtype).itemsize

    def _header(self, name: str) -> bytes:
        """What the file begins with."""
        shape, dtype = self._rows[name]
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        written = io.BytesIO()
        np.lib.format.write_array_header_1_0(written, {**header, "shape": (self.count, *shape)})
        return written.getvalue()

    def _is_array(self, name: str) -> bool:
        """Whether there is a file of this shape and dtype."""
        path, header = self._path(name), self._header(name)
        if not path.is_file() or path.stat().st_size != len(header) + self.count * self._row_bytes(name):
            return False
        with path.open("rb") as file:
            return file.read(len(header)) == header

    def _make(self, name: str) -> None:
        """A file of zeros, which take no room yet."""
        header = self._header(name)
        with whole(self._path(name)) as unfinished, unfinished.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + self.count * self._row_bytes(name))


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
