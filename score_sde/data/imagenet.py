"""Downsampled ImageNet as it is distributed: ten .npz files of rows and labels, and one of the validation set."""

import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from score_sde.data.account import Account
from score_sde.data.cache import Cache, fingerprint, stored
from score_sde.data.labels import where_asked
from score_sde.data.npz import headers, reason
from score_sde.data.pictures import state
from score_sde.data.rows import CHANNELS, classes, files, pictures, side
from score_sde.data.sources import Dataset, labelled
from score_sde.errors import UsageError, require
from score_sde.progress import Progress

TRAIN, HELD_OUT = r"train_data_batch_\d+\.npz", r"val_data\.npz"
FIRST = 1
"""The first class's number in the files."""

BATCHES = 10
"""Files of the whole set."""


def read(path: str, place: pathlib.Path, cache: Cache, asked: bool = False) -> Dataset | None:
    """The pictures of one file or of a folder, uint8 [N, S, S, 3], memory-mapped if the cache may keep them; or None.

    Files may lie in folders of that folder. Labels count from 0. None for anything else. Raises UsageError for a file
    that is damaged, and, where labels are asked for, for what is no label.
    """
    if place.is_file():
        train, held_out = (place,) if _rows(place) else (), ()
    else:
        folders = [place, *sorted(below for below in place.iterdir() if below.is_dir())]
        train, held_out = (tuple(f for below in folders for f in files(below, name)) for name in (TRAIN, HELD_OUT))
    if not any(map(_rows, train)):
        return None
    try:
        x, given = _pictures(path, train, cache), [np.load(file)["labels"] for file in train]
        y, beside = _pictures(path, held_out, cache) if held_out else x[:0], [np.load(f)["labels"] for f in held_out]
    except UsageError:  # a ValueError, which says itself what to do
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"data.path={path} cannot be read ({reason(error)}): download the files anew") from None
    require(x.shape[1:] == y.shape[1:], f"data.path={path} holds pictures of several sizes: name one of its folders")
    counted = lambda: [classes(path, part, len(z), FIRST) if part else None for part, z in ((given, x), (beside, y))]
    own, other = where_asked(asked, counted, [None, None])
    lacking = f"data: warning: {path} holds {len(train)} of ImageNet's {BATCHES} batches to train on"
    notes = (lacking,) if place.is_dir() and len(train) < BATCHES else ()
    return labelled(x, y, own, other, account=Account(held_out[0].name if held_out else "", notes=notes))


def _pictures(path: str, files: tuple[pathlib.Path, ...], cache: Cache) -> np.ndarray:
    """The pictures of several files, memory-mapped unless the cache is too small for them."""
    shapes = [_rows(file) for file in files]
    for file, shape in zip(files, shapes):
        require(shape, f"{file} is damaged or no batch of ImageNet: download it anew")
    require(
        len({shape[1] for shape in shapes}) == 1,
        f"data.path={path} holds pictures of several sizes: name one of its folders",
    )
    count, width = sum(shape[0] for shape in shapes), side(shapes[0])
    shape = (count, width, width, CHANNELS)
    if math.prod(shape) > cache.limit * 2**30:
        return np.concatenate([*_decoded(files, count)])
    name = fingerprint("rows", [(os.path.abspath(file), *state(str(file))) for file in files])
    return stored(cache, name, shape, np.dtype(np.uint8), lambda: _decoded(files, count))


def _decoded(files: tuple[pathlib.Path, ...], count: int) -> Iterator[np.ndarray]:
    with Progress("reading rows", count, "images") as progress:
        for file in files:
            found = pictures(np.load(file)["data"])
            yield found
            progress.update(len(found))


def _rows(file: pathlib.Path) -> tuple[int, ...]:
    """The shape of a file's `data`, if they are rows of pictures beside `labels`; () for any other file."""
    try:
        known = headers(file)
    except Exception:  # a file of any kind
        return ()
    found = known.get("data")
    rows = found is not None and "labels" in known and found.dtype == np.uint8 and side(found.shape) > 0
    return found.shape if rows and found else ()
