"""Labels of pictures that a file beside them gives; what no class is stops only those who ask for labels."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from score_sde.data import captions
from score_sde.errors import UsageError, require

FILE = "dataset.json"
T = TypeVar("T")


def where_asked(asked: bool, read: Callable[[], T], without: T) -> T:
    """What `read` returns; where it raises UsageError and no labels are asked for, a line on stderr and `without`."""
    try:
        return read()
    except UsageError as error:
        if asked:
            raise
        print(f"no labels are taken, and data.condition asks for none ({error})", file=sys.stderr)
        return without


def is_table(name: str) -> bool:
    """Whether a path is that of a file of labels or of captions."""
    return name.rpartition("/")[2] == FILE or captions.is_file(name)


def table(path: str, tables: dict[str, bytes], root: str) -> dict[str, Any] | None:
    """{file: label} of a folder's dataset.json, the files' names in full; None without one. {} says: no labels."""
    where = root + FILE
    if where not in tables:
        return None
    try:
        content = json.loads(tables[where])
        rows = content.get("labels", content)
        return {root + name.replace("\\", "/"): label for name, label in dict(rows or {}).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f'{path}: {where} is not understood: write {{"labels": [[file, integer], ...]}} or {{file: integer}}'
        ) from None


def from_table(path: str, names: tuple[str, ...], table: dict[str, Any]) -> np.ndarray | None:
    """int32 labels of the files of these names; None where the table has none. UsageError for what is no class."""
    if not table:
        return None
    labels = [table.get(name) for name in names]
    for name, label in zip(names, labels):
        require(
            type(label) is int and 0 <= label < 2**31,
            f"{path}: {FILE} gives {name} the label {label}: give every picture an integer, 0 or more",
        )
    return np.array(labels, np.int32)
