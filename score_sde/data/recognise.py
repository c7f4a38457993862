"""What a file is, by its first bytes, with the way from there to data that are read; and a folder without pictures."""

import bz2
import gzip
import lzma
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Iterable
from typing import NamedTuple

from score_sde.data import ways
from score_sde.data.account import endings, visible
from score_sde.data.pictures import EXTENSIONS
from score_sde.data.tfrecord import is_header

HUGGING_FACE = "a set of Hugging Face's datasets"
HEAD = 512
"""Bytes that tell: as many as a tar archive's first header has."""


class Kind(NamedTuple):
    """What a file is, in words, and the way from there."""

    what: str
    way: str


BEGINNINGS: tuple[tuple[bytes, str, ways.Way], ...] = (
    (b"\x93NUMPY", "an array of numpy's", ways.named),
    (b"\x89PNG", "one PNG picture", ways.one_picture),
    (b"\xff\xd8\xff", "one JPEG picture", ways.one_picture),
    (b"GIF8", "one GIF picture", ways.one_picture),
    (b"BM", "one BMP picture", ways.one_picture),
    (b"II*\0", "one TIFF picture", ways.one_picture),
    (b"MM\0*", "one TIFF picture", ways.one_picture),
    (b"PAR1", "a Parquet file", ways.parquet),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ways.hdf5),
    (b"MATLAB 7.3", "a MATLAB file of version 7.3, which is HDF5", ways.hdf5),
    (b"MATLAB 5", "a MATLAB file", ways.matlab),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", ways.unpacked("7z x -ounpacked {}")),
    (b"Rar!", "a RAR archive", ways.unpacked("7z x -ounpacked {}")),
    (b"(\xb5/\xfd", "packed with zstd", ways.alone("zstd -d")),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", ways.again),
    (b"<!doctype html", "a web page (HTML)", ways.again),
    (b"<!DOCTYPE html", "a web page (HTML)", ways.again),
    (b"<html", "a web page (HTML)", ways.again),
    (b"<?xml", "XML", ways.again),
    *((b"\x80" + bytes([version]), "a pickle, which could run any program", ways.pickled) for version in range(2, 6)),
)
"""First bytes, and what begins so."""

WITHIN: tuple[tuple[int, bytes, str, ways.Way], ...] = (
    (4, b"ftyp", "a film, or a picture in HEIC or AVIF", ways.film),
    (8, b"WEBP", "one WebP picture", ways.one_picture),
    (16, b"\xde\xc0\xef\xbe", "an LMDB database", lambda path: ways.lmdb(os.path.dirname(path) or ".")),
)
"""The same of bytes at a place further on."""

PACKED = {
    b"\x1f\x8b": ("gzip", gzip.open, "gunzip -k"),
    b"BZh": ("bzip2", bz2.open, "bunzip2 -k"),
    b"\xfd7zXZ\0": ("xz", lzma.open, "unxz -k"),
}


def kind(place: pathlib.Path) -> Kind | None:
    """What a file or a directory is; None where its first bytes say nothing that is known."""
    try:
        if place.is_dir():
            what, way = _directory(place)
        elif zipfile.is_zipfile(place):
            what, way = _zip(place)
        elif is_header(place):
            what, way = "a TFRecord file", ways.folder
        else:
            with place.open("rb") as file:
                what, way = _file(file.read(HEAD), place)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError):
        return None
    return Kind(what, way(str(place))) if way else None


def _file(head: bytes, place: pathlib.Path) -> tuple[str, ways.Way | None]:
    if not head:
        return "empty", ways.again
    for start, what, way in BEGINNINGS:
        if head.startswith(start):
            return what, way
    for at, found, what, way in WITHIN:
        if head[at:].startswith(found):
            return what, way
    if _is_tar(head):
        return "a tar archive", ways.tar(_first(place))
    for start, (name, opener, command) in PACKED.items():
        if head.startswith(start):
            with opener(place) as file:
                inside = file.read(HEAD)
            if _is_tar(inside):
                return f"a tar archive packed with {name}", ways.tar(_first(place))
            return f"packed with {name}", ways.alone(command)
    if head[:3] == b"\0\0\x08" and 1 <= head[3] <= 4:
        start = 4 + 4 * head[3]
        shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, start, 4))
        return f"an IDX file of shape {shape}, as MNIST's", ways.idx(start, shape)
    return "text", ways.text if _is_text(head) else None


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _first(place: pathlib.Path) -> str:
    """The name of the first file in a tar archive."""
    try:
        with tarfile.open(place) as archive:
            first = archive.next()
    except tarfile.TarError:
        return ""
    return first.name if first else ""


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


def _directory(place: pathlib.Path) -> tuple[str, ways.Way | None]:
    names = os.listdir(place)
    if "data.mdb" in names:
        return "an LMDB database", ways.lmdb
    if any(name.endswith(".arrow") for name in names) or "dataset_dict.json" in names:
        return HUGGING_FACE, ways.hugging_face
    return "a prepared set of TensorFlow Datasets", ways.prepared if "dataset_info.json" in names else None


def _zip(place: pathlib.Path) -> tuple[str, ways.Way]:
    with zipfile.ZipFile(place) as opened:
        names = opened.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch file", ways.torch
    if names and all(name.endswith(".npy") for name in names):
        return "a file of numpy's arrays", ways.named
    if any(name.lower().endswith(EXTENSIONS) for name in names):
        return "a zip file of pictures", ways.folder
    return f"a zip file of {listed(endings(names)) or 'nothing'}", ways.unpacked("python -m zipfile -e {} unpacked")


def listed(kinds: dict[str, int], most: int = 6) -> str:
    """Kinds and how many there are, the most frequent first."""
    rows = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {name}" for name, count in rows[:most]]
    rest = sum(count for _, count in rows[most:])
    return ", ".join([*shown, f"{rest:,} of other kinds"] if rest else shown)


def no_picture(path: str, names: Iterable[str]) -> str:
    """That a folder or zip file of these names holds no picture, what it holds instead, and the way from there."""
    place, seen = pathlib.Path(path).expanduser(), [name for name in names if visible(name)]
    refused = f"data.path={path} holds no picture ({', '.join(EXTENSIONS)})"
    if not seen:
        return f"{refused}: name a directory or zip file of them"
    if found := kind(place):
        return f"data.path={path} holds no picture; it is {found.what}: {found.way}"
    kinds = endings(seen)
    most = max(sorted(kinds), key=kinds.__getitem__)
    first = next(name for name in seen if most in endings([name]))
    held = f"data.path={path} holds {listed(kinds)} and no picture"
    if most == ".npy":
        return f"{held}: of arrays of one shape, {ways.stack(str(place))}"
    found = kind(place / first)
    if found and found.what not in ("text", "empty"):
        return f"{held}; {first} is {found.what}: {found.way}"
    return f"{refused}, but {listed(kinds)}: name a directory or zip file of them"
