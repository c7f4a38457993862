"""A folder of .npy files as data: each an example, or each several, read when they are needed."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from score_sde.data.account import Account, endings
from score_sde.data.arrays import DTYPES
from score_sde.data.folder import files_below
from score_sde.data.npz import UNREADABLE, Header, headers, reason
from score_sde.data.sources import Dataset
from score_sde.data.splits import split
from score_sde.errors import UsageError, require


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayFiles:
    """Examples of one shape in .npy files, memory-mapped when they are read.

    last: how many examples there are up to each file's end, integers [files]. one: each file is an example itself.
    """

    paths: tuple[str, ...]
    last: np.ndarray
    example: tuple[int, ...]
    dtype: np.dtype
    one: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...] of all examples."""
        return (len(self), *self.example)

    def __len__(self) -> int:
        return int(self.last[-1]) if len(self.last) else 0

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        found = np.empty((len(indices), *self.example), self.dtype)
        files = np.searchsorted(self.last, indices, side="right")
        for file in np.unique(files):
            places = np.flatnonzero(files == file)
            array = self._open(file)
            before = int(self.last[file - 1]) if file else 0
            found[places] = array[None] if self.one else array[np.asarray(indices)[places] - before]
        return found

    def _open(self, file: int) -> np.ndarray:
        try:
            array = np.load(self.paths[file], mmap_mode="r")
        except UNREADABLE as error:
            raise UsageError(f"{self.paths[file]} cannot be read ({reason(error)}): put it back") from None
        shape = array.shape if self.one else array.shape[1:]
        require(
            shape == self.example and array.dtype == self.dtype,
            f"{self.paths[file]} has shape {array.shape} and dtype {array.dtype} and had others: put it back",
        )
        return array


def array_folder(path: str, shape: Sequence[int] = (), conditions: Sequence[str] = ()) -> Dataset | None:
    """The .npy files below a directory, in the order of their names; None where there is none.

    Each is one example, or where shape (data.shape) says so, or they differ in length, several [n, ...]. Folders
    `train` and `test` are the split (splits.py). Raises UsageError for files of other shapes or dtypes, and for
    conditions, which a folder has none of.
    """
    root = pathlib.Path(path).expanduser()
    names = files_below(root)
    own = [name for name in names if name.endswith(".npy")]
    if not own:
        return None
    require(
        not conditions,
        f"data.condition={tuple(conditions)} is not to be had of data.path={path}, a folder of .npy files: put all"
        " into one .npz file",
    )
    known = {name: _header(root / name) for name in own}
    one, example, dtype = _form(path, known, tuple(shape))
    tops = {name.split("/")[0] for name in own if "/" in name}
    found = split(tops, f"data.path={path}")
    parts = [[n for n in own if n.startswith(f"{top}/")] for top in found[:2]] if found else [own, []]
    left = [name for name in own if name not in {*parts[0], *parts[1]}]
    passed = endings(name for name in names if name not in known) | ({"in other folders": len(left)} if left else {})

    def source(part: list[str]) -> ArrayFiles:
        counts = [1 if one else known[name].shape[0] for name in part]
        return ArrayFiles(
            tuple(os.path.join(root, name) for name in part), np.cumsum(counts, dtype=np.int64), example, dtype, one
        )

    return Dataset(source(parts[0]), source(parts[1]), account=Account(found.held_out if found else "", passed))


def _header(file: pathlib.Path) -> Header:
    try:
        return headers(file)[""]
    except UNREADABLE as error:
        raise UsageError(f"{file} cannot be read ({reason(error)}): write it with np.save") from None


def _form(path: str, known: dict[str, Header], wanted: tuple[int, ...]) -> tuple[bool, tuple[int, ...], np.dtype]:
    """Whether a file is one example, an example's shape, and the dtype."""
    common = lambda values: collections.Counter(values).most_common(1)[0][0]
    dtype = common(header.dtype for header in known.values())
    shapes = {header.shape for header in known.values()}
    if wanted:
        one = wanted in shapes
    else:
        one = len(shapes) == 1 or len({shape[1:] for shape in shapes}) > 1
    example = wanted or common(header.shape if one else header.shape[1:] for header in known.values())
    for name, header in known.items():
        require(
            header.dtype == dtype and dtype.name in DTYPES and dtype.isnative,
            f"data.path={path}: {name} has dtype {header.dtype}, and others {dtype}: save all as one of"
            f" {', '.join(DTYPES)}",
        )
        own = header.shape if one else header.shape[1:]
        require(
            own == example,
            f"data.path={path}: {name} has shape {header.shape}, and {'one example' if one else 'examples'} the shape"
            f" {example}: give all files one shape, or say by data.shape what an example is",
        )
    return one, example, dtype
