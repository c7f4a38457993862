"""Pictures as rows of 3 x S x S bytes, as CIFAR's and downsampled ImageNet's files have them, and their labels."""

import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from score_sde.errors import require

CHANNELS = 3


def side(shape: tuple[int, ...]) -> int:
    """S of rows [N, 3 * S * S]; 0 of any other shape."""
    found = math.isqrt(shape[1] // CHANNELS) if len(shape) == 2 else 0
    return found if found and shape[1] == CHANNELS * found * found else 0


def pictures(rows: np.ndarray) -> np.ndarray:
    """uint8 [N, 3 * S * S] -> [N, S, S, 3]; ValueError for anything else."""
    if rows.dtype != np.uint8 or not side(rows.shape):
        raise ValueError(f"its data have shape {rows.shape} and dtype {rows.dtype}")
    square = rows.reshape(-1, CHANNELS, side(rows.shape), side(rows.shape))
    return np.ascontiguousarray(square.transpose(0, 2, 3, 1))


def classes(path: str, labels: list[Any], count: int, first: int = 0) -> np.ndarray:
    """int32 labels [count] of several files, counted from 0 as there from `first`; UsageError for what is none."""
    try:
        found = np.concatenate([np.asarray(part, np.int64) for part in labels])
    except (ValueError, TypeError, OverflowError):
        found = np.zeros(0, np.int64)
    within = found.min(initial=first) >= first and found.max(initial=first) < 2**31
    require(
        found.shape == (count,) and within,
        f"data.path={path} has no labels that are integers from {first} on, one for each of the {count} pictures:"
        " download the files anew",
    )
    return (found - first).astype(np.int32)


def files(folder: pathlib.Path, pattern: str) -> tuple[pathlib.Path, ...]:
    """The files of a folder whose names match, by the numbers in these."""
    names = [name for name in os.listdir(folder) if re.fullmatch(pattern, name)] if folder.is_dir() else []
    number = lambda name: [int(digits) for digits in re.findall(r"\d+", name)]
    return tuple(folder / name for name in sorted(names, key=number))
