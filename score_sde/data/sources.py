"""Where data come from: sources of arrays [N, ...], some to train on and some held out. No jax in here."""

import dataclasses
import importlib.resources
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from score_sde.data.account import NO_ACCOUNT, Account
from score_sde.data.ranges import Scaled, Values
from score_sde.errors import require

DIGITS_TRAIN = 1500


class Source(Protocol):
    """Examples by number; numpy arrays, memory-mapped ones too, are such. Others are picklable and thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...] of all examples, such as [N, H, W, C]."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """The examples [n, ...] with these numbers, integers [n]: uint8, float32 or int32, pictures uint8."""
        ...


class Dataset(NamedTuple):
    """Examples to train on and held-out ones (perhaps none), what may condition them by name, names of the classes.

    condition, held_out_condition: such as {"label": int32 [N]}, one entry for each example of the split. account: what
    was taken, and what was not.
    """

    train: Source
    held_out: Source
    condition: Mapping[str, Source] = {}
    held_out_condition: Mapping[str, Source] = {}
    classes: tuple[str, ...] = ()
    account: Account = NO_ACCOUNT
    values: Values | None = None
    """What the stored values of pictures were taken to lie in, where that was looked at."""
    bytes: tuple[int, ...] = ()
    """Of a text: the byte that token i stands for is bytes[i]."""

    elements: tuple[str, ...] = ()
    """Of point sets: what their features stand for, where files name it."""


def labelled(
    train: Source,
    held_out: Source,
    labels: np.ndarray | None = None,
    held_out_labels: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    account: Account = NO_ACCOUNT,
) -> Dataset:
    """A Dataset with int32 labels [N], where they are known."""
    own, other = ({} if found is None else {"label": found} for found in (labels, held_out_labels))
    return Dataset(train, held_out, own, other, classes, account)


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some examples of a source, in an order of its own."""

    source: Source
    chosen: np.ndarray
    """Their numbers in the source, integers [N]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, ...] of all examples."""
        return (len(self.chosen), *self.source.shape[1:])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.source[self.chosen[indices]]


def is_array(source: Source) -> bool:
    """Whether examples are merely copied, from memory or a mapped file, and not decoded."""
    return is_array(source.source) if isinstance(source, Subset | Scaled) else isinstance(source, np.ndarray)


THREADED = 64 * 64
"""Pixels from which threads pay: below, Pillow holds on to the GIL for most of the time, and they hinder each other."""


def gather(source: Source, indices: np.ndarray, threads: int | None = None) -> np.ndarray:
    """source[indices]; what has to be decoded by so many threads (None: one per core, for small images one)."""
    if is_array(source):
        return source[indices]
    if threads is None:
        threads = cores() if math.prod(source.shape[1:3]) >= THREADED else 1
    threads = min(threads, max(len(indices), 1))
    if threads == 1:
        return source[indices]
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(source.__getitem__, np.array_split(indices, threads))))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def some(source: Source, count: int) -> np.ndarray:
    """All examples of a source, or where it has more than `count` a fixed choice of so many, as an array."""
    return gather(source, chosen(len(source), count))


def chosen(total: int, count: int) -> np.ndarray:
    """The numbers below `total` in order, or where there are more than `count` a fixed choice of so many of them."""
    return np.arange(total) if total <= count else np.sort(np.random.RandomState(0).permutation(total)[:count])


def hold_out(data: Dataset, count: int) -> Dataset:
    """Data whose first `count` of a fixed permutation are held out; UsageError where there is a test split already.

    The permutation is RandomState(0)'s, whose stream is frozen, so the choice never changes.
    """
    total, split = len(data.train), len(data.held_out)
    if count == 0:
        return data
    require(split == 0, f"data.held_out={count}, but {split} images are held out by the data themselves: set it to 0")
    require(count < total, f"data.held_out={count} leaves none of {total} images to train on: hold out fewer")
    order = np.random.RandomState(0).permutation(total)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    own, other = ({name: _part(c, rows) for name, c in data.condition.items()} for rows in (kept, held))
    train, held_out = Subset(data.train, kept), Subset(data.train, held)
    account = data.account._replace(held_out_from=f"a fixed permutation, data.held_out={count}")
    parts = {"train": train, "held_out": held_out, "condition": own, "held_out_condition": other}
    return data._replace(**parts, account=account)


def _part(source: Source, rows: np.ndarray) -> Source:
    """Some entries of a condition, as an array where it is one."""
    return source[rows] if isinstance(source, np.ndarray) else Subset(source, rows)


def digits(size: int = 8) -> Dataset:
    """The 1,797 handwritten digits, 8x8 grey, of the UCI repository: 1,500 to train on, 297 held out.

    "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49,
    CC BY 4.0; this copy, the database's test set, as distributed with scikit-learn. Pixels count 0 to 16 dark
    cells, stored as such and scaled here to round(255 k / 16). The split is a fixed permutation; labels are the digits.
    size: 8, or 4 for the means of blocks of 2x2 pixels, rounded.
    """
    with importlib.resources.files("score_sde.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file)
        counts, labels = stored["images"], stored["labels"].astype(np.int32)
    images = np.round(counts * (255 / 16)).astype(np.uint8)[..., None]
    if size == 4:
        images = np.round(images.reshape(-1, 4, 2, 4, 2, 1).mean((2, 4))).astype(np.uint8)
    order = np.random.RandomState(0).permutation(len(images))  # RandomState's stream is frozen for good
    train, held_out = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
    account = Account("a fixed permutation of the digits")
    return labelled(images[train], images[held_out], labels[train], labels[held_out], account=account)
