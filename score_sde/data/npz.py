"""What is in an .npy or .npz file: the headers of its arrays, the arrays, and why they cannot be read."""

import io
import pathlib
import zipfile
import zlib
from typing import IO, NamedTuple

import numpy as np

UNREADABLE = (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a file may raise that is none of numpy's, or a part of one."""


class Header(NamedTuple):
    """Of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def headers(file: pathlib.Path) -> dict[str, Header]:
    """The arrays of an .npz file by name, or that of an .npy file as ""; ValueError and others where it is neither."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            opened.seek(0)
            return {"": _header(opened)}
    found = {}
    with zipfile.ZipFile(file) as zipped:
        for name in zipped.namelist():
            if name.endswith(".npy"):
                with zipped.open(name) as array:
                    found[name.removesuffix(".npy")] = _header(array)
    return found


def _header(array: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(array)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(array)
    return Header(shape, dtype)


def arrays(content: bytes, *names: str) -> dict[str, np.ndarray]:
    """The arrays by name in what an .npz file has, of these names alone where there are any; UNREADABLE for another."""
    opened = np.load(io.BytesIO(content))
    if not isinstance(opened, np.lib.npyio.NpzFile):
        raise ValueError("it is one array, as np.save writes it")
    with opened:
        return {name: opened[name] for name in names or opened.files if name in opened}


def reason(error: Exception) -> str:
    """Why an array file cannot be read, without numpy's advice to allow pickles, which could run any program."""
    text = str(error).split("\n")[0] or type(error).__name__
    return "it does not begin as np.save's files do" if "pickle" in text else text
