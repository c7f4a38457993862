"""Pictures in a directory or a zip file: which there are, in what order, their split and their labels."""

import dataclasses
import functools
import itertools
import os
import pathlib
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from score_sde.data.account import Account, endings, visible
from score_sde.data.captions import CAPTION, from_files
from score_sde.data.labels import FILE, from_table, is_table, table, where_asked
from score_sde.data.pictures import EXTENSIONS, Encoded, Files, state
from score_sde.data.recognise import no_picture
from score_sde.data.splits import Split, is_split, split
from score_sde.errors import UsageError, require


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
            header = self._at(offset, 30)
            skipped = sum(struct.unpack("<HH", header[26:30]))  # the local header's name and extra field
            data = self._at(offset + 30 + skipped, size)
            data = zlib.decompress(data, -zlib.MAX_WBITS) if method == zipfile.ZIP_DEFLATED else data
        except (OSError, struct.error, zlib.error) as error:
            raise UsageError(f"{self.name(index)} cannot be read ({error}): write the zip file anew") from None
        require(zlib.crc32(data) == crc, f"{self.name(index)} is damaged (wrong checksum): write the zip file anew")
        return data

    def _at(self, offset: int, count: int) -> bytes:
        """Bytes by their position; where the system cannot read so (Windows), by a handle of this call's own."""
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(count)

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


def folder(path: str, conditions: Sequence[str] = ()) -> Encoded:
    """The pictures below a directory, by path; UsageError where there are none.

    Two sub-folders whose names are a split (splits.py) are that; pictures that are in neither are passed over. Labels
    come from a dataset.json or, failing that, from the first level of folders where there are two or more: classes by
    name; captions, where asked for, from a captions.json or captions.txt. conditions: what is asked for; labels that
    are none are an error if they are.
    """
    root = pathlib.Path(path).expanduser()
    names = files_below(root)
    tables = {name: (root / name).read_bytes() for name in names if is_table(name)}
    return _encoded(path, names, tables, lambda chosen: Folder(str(root), chosen), conditions)


def files_below(root: pathlib.Path) -> list[str]:
    """The paths of all files below a directory, with slashes, in order."""
    found = [os.path.relpath(os.path.join(place, name), root) for place, _, names in _walk(root) for name in names]
    return sorted(name.replace(os.sep, "/") for name in found)


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


def zip_file(path: str, conditions: Sequence[str] = ()) -> Encoded:
    """The pictures of a zip file, as `folder` finds them in the directory that it unpacks to; UsageError likewise."""
    members, tables = _members(path)
    return _encoded(path, sorted(members), tables, lambda names: _zip(path, members, names), conditions)


def every_picture(path: str) -> Files:
    """All pictures below a directory or in a zip file, in whatever folders; UsageError where there are none."""
    root = pathlib.Path(path).expanduser()
    members = {} if root.is_dir() else _members(path)[0]
    names = files_below(root) if root.is_dir() else sorted(members)
    pictures = tuple(name for name in names if _is_picture(name))
    if not pictures:
        raise UsageError(no_picture(path, names))
    return Folder(str(root), pictures) if root.is_dir() else _zip(path, members, pictures)


def _members(path: str) -> tuple[dict[str, zipfile.ZipInfo], dict[str, bytes]]:
    """What is in a zip file by name, and its tables of labels."""
    try:
        with zipfile.ZipFile(pathlib.Path(path).expanduser()) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
            members = {info.filename.replace("\\", "/"): info for info in infos}  # as some programs on Windows write
            return members, {name: opened.read(info) for name, info in members.items() if is_table(name)}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UsageError(f"data.path={path} cannot be read ({error}): write the zip file anew") from None


def _zip(path: str, members: dict[str, zipfile.ZipInfo], names: tuple[str, ...]) -> Zip:
    infos = [members[name] for name in names]
    for info in infos:
        readable = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1
        require(readable, f"{path}:{info.filename} is encrypted or packed in a rare way: store or deflate it")
    rows = [(info.header_offset, info.compress_size, info.compress_type, info.CRC) for info in infos]
    return Zip(str(pathlib.Path(path).expanduser()), names, np.array(rows, np.int64).reshape(len(rows), 4))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS) and visible(name)


def _encoded(
    path: str,
    names: list[str],
    tables: dict[str, bytes],
    files: Callable[[tuple[str, ...]], Files],
    conditions: Sequence[str],
) -> Encoded:
    """Split, labels, captions and account of the sorted names of all files."""
    pictures = [name for name in names if _is_picture(name)]
    if not pictures:
        raise UsageError(no_picture(path, names))
    base = _common_folder([*pictures, *tables])
    tops = {name[len(base) :].split("/")[0] for name in pictures if "/" in name[len(base) :]}
    found = split(tops, f"data.path={path}")
    roots = [f"{base}{found.train}/", f"{base}{found.held_out}/"] if found else [base]
    parts = [tuple(name for name in pictures if name.startswith(root)) for root in roots]
    read = lambda: _labels(path, parts, roots, base, tables)
    labels, classes = where_asked("label" in conditions, read, ([None] * len(parts), ()))
    held_out = parts[1] if found else ()
    others = sorted({*names} - {*pictures})
    account = _account(path, base, pictures, others, found)
    captions = [
        from_files(path, part, tables, root, base) if CAPTION in conditions else None
        for part, root in zip(parts, roots)
    ]
    return Encoded(
        files(parts[0]),
        files(held_out),
        labels[0],
        labels[1] if found else None,
        classes,
        account,
        captions[0],
        captions[1] if found else None,
    )


def _account(path: str, base: str, pictures: list[str], others: list[str], found: Split | None) -> Account:
    """What is passed over: files that are no pictures, and pictures outside of the split."""
    passed = endings(name for name in others if not is_table(name))
    if found is None:
        return Account("", passed, _splits_below(path, base, pictures))
    tops = (name[len(base) :].partition("/") for name in pictures)
    left = (f"in {top}" if slash else "beside the split" for top, slash, _ in tops if top not in found[:2])
    return Account(found.held_out, {**passed, **Counter(left)})


def _splits_below(path: str, base: str, pictures: list[str]) -> tuple[str, ...]:
    """A line where a folder further down holds what would be a split here."""
    children: dict[str, set[str]] = {}
    for folder in {name.rpartition("/")[0][len(base) :] for name in pictures}:
        parts = folder.split("/")
        for depth in range(1, len(parts)):
            children.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    for folder, names in sorted(children.items()):
        if is_split(names):
            remedy = "name that folder alone" if pathlib.Path(path).expanduser().is_dir() else "zip that folder alone"
            below = f"{base}{folder} holds {' and '.join(sorted(names))}, which are a split only at the top"
            return (f"data.path={path}: {below}: all of it is trained on; {remedy} to hold the one out",)
    return ()


def _common_folder(names: Sequence[str]) -> str:
    """The folder that everything is in, "" or with a slash at its end: zip files often have one."""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last)))
    return "".join(f"{part}/" for part, _ in same)


def _labels(
    path: str, parts: list[tuple[str, ...]], roots: list[str], base: str, tables: dict[str, bytes]
) -> tuple[list[np.ndarray | None], tuple[str, ...]]:
    """int32 labels of every part, and the classes' names, from dataset.json or from folders."""
    found = [table(path, tables, root if root + FILE in tables else base) for root in roots]
    if any(labels is not None for labels in found):
        return [from_table(path, part, labels or {}) for part, labels in zip(parts, found)], ()
    firsts = [[name[len(root) :].split("/")[0] for name in part] for part, root in zip(parts, roots)]
    classes = sorted({first for part in firsts for first in part})
    nested = all("/" in name[len(root) :] for part, root in zip(parts, roots) for name in part)
    if not nested or len(classes) < 2:
        return [None] * len(parts), ()
    number = {name: i for i, name in enumerate(classes)}
    return [np.array([number[first] for first in part], np.int32) for part in firsts], tuple(classes)
