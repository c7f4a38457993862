"""Pictures in a directory or a zip file: which there are, in what order, their split and their labels."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from score_sde.data.pictures import EXTENSIONS, Encoded, Files, state
from score_sde.errors import UsageError, require

HELD_OUT = ("test", "val", "validation", "valid")
"""The first of these that is beside `train` is held out."""

LABELS = "dataset.json"


@dataclasses.dataclass(frozen=True)
class Folder:
    """Picture files below a directory."""

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The file's path."""
        return os.path.join(self.root, self.names[index])

    def read(self, index: int) -> bytes:
        """The file's bytes."""
        try:
            with open(self.name(index), "rb") as file:
                return file.read()
        except OSError as error:
            raise UsageError(f"{self.name(index)} cannot be read ({error.strerror}): put it back") from None

    def stamp(self) -> list:
        """Path, size and time of modification of every file."""
        return [os.path.abspath(self.root), [(name, *state(self.name(i))) for i, name in enumerate(self.names)]]

    def listing(self) -> list:
        """Name and size of every file."""
        return [(name, state(self.name(i))[0]) for i, name in enumerate(self.names)]


@dataclasses.dataclass(frozen=True, eq=False)
class Zip:
    """Picture files in a zip file.

    Bytes are read by position, so any number of threads and forked processes share one descriptor; an unpickled copy
    opens its own. (zipfile's handles know neither, and each holds the whole directory again.)
    """

    path: str
    names: tuple[str, ...]
    table: np.ndarray
    """Offset, compressed size, method and CRC-32 of every picture: int64 [N, 4]."""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The zip file's path and the name in there."""
        return f"{self.path}:{self.names[index]}"

    def read(self, index: int) -> bytes:
        """The picture's bytes, their checksum verified."""
        offset, size, method, crc = self.table[index].tolist()
        try:
            header = os.pread(self._descriptor, 30, offset)
            skipped = sum(struct.unpack("<HH", header[26:30]))  # the local header's name and extra field
            data = os.pread(self._descriptor, size, offset + 30 + skipped)
            data = zlib.decompress(data, -zlib.MAX_WBITS) if method == zipfile.ZIP_DEFLATED else data
        except (OSError, struct.error, zlib.error) as error:
            raise UsageError(f"{self.name(index)} cannot be read ({error}): write the zip file anew") from None
        require(zlib.crc32(data) == crc, f"{self.name(index)} is damaged (wrong checksum): write the zip file anew")
        return data

    @functools.cached_property
    def _descriptor(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_descriptor"}

    def stamp(self) -> list:
        """Path, size and time of modification of the zip file, and what is taken from it."""
        return [os.path.abspath(self.path), *state(self.path), self.names]

    def listing(self) -> list:
        """Name, packed size and checksum of every picture."""
        return [self.names, self.table[:, 1:].tolist()]


def folder(path: str) -> Encoded:
    """The pictures below a directory, by path; UsageError where there are none.

    Sub-folders `train` and `test` (or, failing that, `val`, `validation`, `valid`), if both are there, are the split;
    pictures that are in neither are left out, which is told on stderr. Labels come from a dataset.json or, failing
    that, from the first level of folders where there are two or more: classes by name.
    """
    root = pathlib.Path(path).expanduser()
    found = [os.path.relpath(os.path.join(place, name), root) for place, _, names in _walk(root) for name in names]
    names = sorted(name.replace(os.sep, "/") for name in found)
    tables = {name: (root / name).read_bytes() for name in names if _is_table(name)}
    return _encoded(path, names, tables, lambda chosen: Folder(str(root), chosen))


def _walk(root: pathlib.Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk without hidden folders; links are followed, none is entered twice. UsageError for an unreadable one."""

    def unreadable(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror}): give yourself leave to, or take it away")

    entered = set()
    for place, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            folders[:] = []
            continue
        entered.add((status.st_dev, status.st_ino))
        yield place, folders, names


def zip_file(path: str) -> Encoded:
    """The pictures of a zip file, as `folder` finds them in the directory that it unpacks to; UsageError likewise."""
    file = str(pathlib.Path(path).expanduser())
    try:
        with zipfile.ZipFile(file) as opened:
            members = {info.filename: info for info in opened.infolist() if not info.is_dir()}
            tables = {name: opened.read(name) for name in members if _is_table(name)}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UsageError(f"data.path={path} cannot be read ({error}): write the zip file anew") from None

    def chosen(names: tuple[str, ...]) -> Zip:
        infos = [members[name] for name in names]
        for info in infos:
            readable = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1
            require(readable, f"{path}:{info.filename} is encrypted or packed in a rare way: store or deflate it")
        rows = [(info.header_offset, info.compress_size, info.compress_type, info.CRC) for info in infos]
        return Zip(file, names, np.array(rows, np.int64).reshape(len(rows), 4))

    return _encoded(path, sorted(members), tables, chosen)


def _is_table(name: str) -> bool:
    return name.rpartition("/")[2] == LABELS


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return name.lower().endswith(EXTENSIONS) and not hidden


def _encoded(
    path: str, names: list[str], tables: dict[str, bytes], files: Callable[[tuple[str, ...]], Files]
) -> Encoded:
    """Split and labels of the sorted names of all files."""
    pictures = [name for name in names if _is_picture(name)]
    require(pictures, f"data.path={path} holds no picture ({', '.join(EXTENSIONS)}): name a directory or zip of them")
    base = _common_folder([*pictures, *tables])
    tops = {name[len(base) :].split("/")[0] for name in pictures if "/" in name[len(base) :]}
    test = next((name for name in HELD_OUT if name in tops), None)
    roots = [f"{base}train/", f"{base}{test}/"] if test and "train" in tops else [base]
    parts = [tuple(name for name in pictures if name.startswith(root)) for root in roots]
    labels, classes = _labels(path, parts, roots, base, tables)
    held_out = parts[1] if len(parts) > 1 else ()
    if left := [name for name in pictures if not name.startswith(tuple(roots))]:
        split = f"train ({len(parts[0])} pictures to train on) and {test} ({len(held_out)} held out)"
        note = f"{len(left)} beside them are left out, such as {left[0]}"
        print(f"data.path={path}: {split} are the split, and {note}", file=sys.stderr)
    return Encoded(files(parts[0]), files(held_out), labels[0], labels[1] if held_out else None, classes)


def _common_folder(names: Sequence[str]) -> str:
    """The folder that everything is in, "" or with a slash at its end: zip files often have one."""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    return "".join(f"{part}/" for part, _ in same)


def _labels(
    path: str, parts: list[tuple[str, ...]], roots: list[str], base: str, tables: dict[str, bytes]
) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """int32 labels of every part, and the classes' names, from dataset.json or from folders."""
    found = [_table(path, tables, root if root + LABELS in tables else base) for root in roots]
    if any(table is not None for table in found):
        return [_from_table(path, part, table or {}) for part, table in zip(parts, found)], ()
    firsts = [[name[len(root) :].split("/")[0] for name in part] for part, root in zip(parts, roots)]
    classes = sorted({first for part in firsts for first in part})
    nested = all("/" in name[len(root) :] for part, root in zip(parts, roots) for name in part)
    if not nested or len(classes) < 2:
        return [None] * len(parts), ()
    number = {name: i for i, name in enumerate(classes)}
    return [np.array([number[first] for first in part], np.int32) for part in firsts], tuple(classes)


def _table(path: str, tables: dict[str, bytes], root: str) -> dict[str, Any] | None:
    """{file: label} of a folder's dataset.json, the files' names in full; None without one. {} says: no labels."""
    where = root + LABELS
    if where not in tables:
        return None
    try:
        content = json.loads(tables[where])
        rows = content.get("labels", content)
        return {root + name.replace("\\", "/"): label for name, label in dict(rows or {}).items()}
    except (ValueError, TypeError, AttributeError):
        raise UsageError(
            f'{path}: {where} is not understood: write {{"labels": [[file, integer], ...]}} or {{file: integer}}'
        ) from None


def _from_table(path: str, names: tuple[str, ...], table: dict[str, Any]) -> np.ndarray | None:
    if not table:
        return None
    labels = [table.get(name) for name in names]
    for name, label in zip(names, labels):
        require(
            type(label) is int and 0 <= label < 2**31,
            f"{path}: {LABELS} gives {name} the label {label}: give every picture an integer, 0 or more",
        )
    return np.array(labels, np.int32)
