"""CIFAR-10's and CIFAR-100's python batches, read by the machine for pickles that calls nothing of a file's."""

import pathlib
from typing import Any

import numpy as np

from score_sde.adapters.unpickler import Allowance, Stateful, Unpickler
from score_sde.data.account import Account
from score_sde.data.labels import where_asked
from score_sde.data.npz import reason
from score_sde.data.rows import classes, files, pictures
from score_sde.data.sources import Dataset, labelled
from score_sde.errors import UsageError, require

FOLDERS = {
    "cifar-10-batches-py": (r"data_batch_\d+", "test_batch", "batches.meta"),
    "cifar-100-python": ("train", "test", "meta"),
}
"""By folder: the names of the files to train on, the one held out, and the one of the classes' names."""

BATCHES = 5
"""Of CIFAR-10 to train on."""

LARGEST = 2**30
"""Bytes of a file; CIFAR-100's, the largest, has 155 million."""


def read(path: str, place: pathlib.Path, asked: bool = False) -> Dataset | None:
    """The pictures of the folder, of one that it is in, or of one file, uint8 [N, 32, 32, 3]; None for anything else.

    Raises UsageError for a folder with a file that is damaged, and, where labels are asked for, for what is no label.
    """
    if place.is_file():
        try:
            batch = _batch(place) if _is_pickle(place) else None
        except Exception:  # any pickle of anything
            batch = None
        return _dataset(path, [batch], [], (), "", asked) if batch else None
    for folder, (train, held_out, meta) in FOLDERS.items():
        for below in (place, place / folder):
            found = files(below, train)
            if found and (below / meta).is_file() and all(map(_is_pickle, found)):
                return _folder(path, found, below / held_out, below / meta, asked)
    return None


def _folder(path: str, train: tuple[pathlib.Path, ...], test: pathlib.Path, meta: pathlib.Path, asked: bool) -> Dataset:
    parts = [*train, *([test] if test.is_file() else [])]
    contents = [_whole(file) for file in parts]
    found = _dataset(path, contents[: len(train)], contents[len(train) :], _names(meta), test.name, asked)
    if meta.name == "batches.meta" and len(train) < BATCHES:
        lacking = f"data: warning: {path} holds {len(train)} of CIFAR-10's {BATCHES} batches to train on"
        return found._replace(account=found.account._replace(notes=(lacking,)))
    return found


def _dataset(
    path: str, train: list[dict], test: list[dict], names: tuple[str, ...], origin: str, asked: bool
) -> Dataset:
    x = np.concatenate([batch["data"] for batch in train])
    y = np.concatenate([batch["data"] for batch in test]) if test else x[:0]

    def labels() -> list[np.ndarray | None]:
        parts = ([batch.get("labels", batch.get("fine_labels")) for batch in part] for part in (train, test))
        return [classes(path, found, len(part)) if found else None for found, part in zip(parts, (x, y))]

    own, other = where_asked(asked, labels, [None, None])
    return labelled(x, y, own, other, names, Account(origin if test else ""))


def _is_pickle(place: pathlib.Path) -> bool:
    with place.open("rb") as file:
        head = file.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _whole(place: pathlib.Path) -> dict[str, Any]:
    try:
        return _batch(place)
    except Exception as error:  # what a damaged file does to a reader has no bounds
        raise UsageError(f"{place} cannot be read ({reason(error)}): download the set anew") from None


def _batch(place: pathlib.Path) -> dict[str, Any]:
    """What a file holds by name, `data` as uint8 [N, S, S, 3]; ValueError and others for another pickle."""
    found = _unpickled(place)
    return {**found, "data": pictures(found["data"].array)}


def _names(meta: pathlib.Path) -> tuple[str, ...]:
    """The classes' names, or none where the file does not give them."""
    try:
        found = _unpickled(meta)
        return tuple(_text(name) for name in found.get("label_names", found.get("fine_label_names", ())))
    except Exception:  # as above; a name is not needed
        return ()


def _unpickled(place: pathlib.Path) -> dict[str, Any]:
    size = place.stat().st_size
    require(size <= LARGEST, f"{place} has {size} bytes, which is more than CIFAR's: name another file")
    with place.open("rb") as file:
        found = Unpickler(_find, _refuse, Allowance(size)).run(file)
    return {_text(name): value for name, value in found.items()}


def _text(name: str | bytes) -> str:
    """Python 2's strings are either."""
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _refuse(pid: Any) -> Any:
    raise ValueError("it refers to something outside of it")


def _find(name: str) -> Any:
    """What stands for the few names that the pickle of an array of bytes has; ValueError for any other."""
    known = {
        "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
        "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
        "numpy.ndarray": "ndarray",
        "numpy.dtype": lambda kind, *_: _Dtype(kind),
        "_codecs.encode": lambda text, encoding: text.encode("latin1") if encoding == "latin1" else None,
    }
    if name not in known:
        raise ValueError(f"it names {name!r}")
    return known[name]


class _Dtype(Stateful):
    def __init__(self, name: str) -> None:
        if name not in ("u1", "|u1"):
            raise ValueError(f"its numbers are {name!r}, not bytes")


class _Array(Stateful):
    """An array of bytes, empty until its state comes: version, shape, dtype, order and content."""

    array = np.zeros((0, 0), np.uint8)

    def receive(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or fortran:
            raise ValueError("its array is no bytes, row by row")
        content = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(content, np.uint8).reshape([int(n) for n in shape])
