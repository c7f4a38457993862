"""Where images come from: sources of uint8 [N, H, W, C], some to train on and some held out. No jax in here."""

import dataclasses
import importlib.resources
import math
import os
import pathlib
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from score_sde.errors import UsageError, require

DIGITS_TRAIN = 1500


class Source(Protocol):
    """Images by number; numpy arrays, memory-mapped ones too, are such. Others are picklable and thread-safe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C] of all images."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """uint8 [n, H, W, C] of the images with these numbers, integers [n]."""
        ...


class Images(NamedTuple):
    """Images to train on and held-out ones (perhaps none), with int32 labels [N] and class names where known."""

    train: Source
    held_out: Source
    labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some images of a source, in an order of its own."""

    source: Source
    chosen: np.ndarray
    """Their numbers in the source, integers [N]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C] of all images."""
        return (len(self.chosen), *self.source.shape[1:])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.source[self.chosen[indices]]


def is_array(source: Source) -> bool:
    """Whether images are merely copied, from memory or a mapped file, and not decoded."""
    return is_array(source.source) if isinstance(source, Subset) else isinstance(source, np.ndarray)


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
    """All images of a source, or where it has more than `count` a fixed choice of so many, as an array."""
    return gather(source, chosen(len(source), count))


def chosen(total: int, count: int) -> np.ndarray:
    """The numbers below `total` in order, or where there are more than `count` a fixed choice of so many of them."""
    return np.arange(total) if total <= count else np.sort(np.random.RandomState(0).permutation(total)[:count])


def hold_out(images: Images, count: int) -> Images:
    """Images whose first `count` of a fixed permutation are held out; UsageError where there is a test split already.

    The permutation is RandomState(0)'s, whose stream is frozen, so the choice never changes.
    """
    total, split = len(images.train), len(images.held_out)
    if count == 0:
        return images
    require(split == 0, f"data.held_out={count}, but {split} images are held out by the data themselves: set it to 0")
    require(count < total, f"data.held_out={count} leaves none of {total} images to train on: hold out fewer")
    order = np.random.RandomState(0).permutation(total)
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    labels = (None, None) if images.labels is None else (images.labels[kept], images.labels[held])
    return Images(Subset(images.train, kept), Subset(images.train, held), *labels, images.classes)


def digits() -> Images:
    """The 1,797 handwritten digits, 8x8 grey, of the UCI repository: 1,500 to train on, 297 held out.

    "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998, https://doi.org/10.24432/C50P49,
    CC BY 4.0; this copy, the database's test set, as distributed with scikit-learn. Pixels count 0 to 16 dark
    cells, stored as such and scaled here to round(255 k / 16). The split is a fixed permutation.
    """
    with importlib.resources.files("score_sde.data").joinpath("digits.npz").open("rb") as file:
        counts = np.load(file)["images"]
    images = np.round(counts * (255 / 16)).astype(np.uint8)[..., None]
    order = np.random.RandomState(0).permutation(len(images))  # RandomState's stream is frozen for good
    return Images(images[order[:DIGITS_TRAIN]], images[order[DIGITS_TRAIN:]])


def array_file(path: str) -> Images:
    """Images of an .npy file, or of an .npz file's `train` (or `images`) and, where there is one, `test` array.

    Arrays are uint8 [N, H, W, C]; .npy files are memory-mapped. An .npz file may have integer `labels` and
    `test_labels` [N]. Raises UsageError for a missing or unreadable file, another rank or another dtype.
    """
    file = pathlib.Path(path).expanduser()
    require(file.is_file(), f"data.path={path} is not a file: name an .npy or .npz file of uint8 images")
    try:
        arrays = _read(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).split("\n")[0]
        raise UsageError(f"data.path={path} cannot be read ({reason}): write it with np.save or np.savez") from None
    names = [name for name in ("", "train", "images") if name in arrays]
    require(names, f"data.path={path} holds {sorted(arrays)}: name its image array `train` or `images`")
    train = _checked(arrays[names[0]], f"{path}:{names[0]}".removesuffix(":"))
    test = arrays.get("test", np.zeros((0, *train.shape[1:]), np.uint8))
    test = _checked(test, f"{path}:test", like=train)
    return Images(train, test, _labels(path, arrays, "labels", train), _labels(path, arrays, "test_labels", test))


def _labels(path: str, arrays: dict[str, np.ndarray], name: str, images: np.ndarray) -> np.ndarray | None:
    if name not in arrays:
        return None
    labels = arrays[name]
    require(
        labels.shape in ((len(images),), (len(images), 1)) and labels.dtype.kind in "iu",
        f"{path}:{name} has shape {labels.shape} and dtype {labels.dtype}: give one integer to each of the"
        f" {len(images)} images, or leave it out",
    )
    return labels.reshape(-1).astype(np.int32)


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or that of an .npy file under the name ""."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            return {"": np.load(file, mmap_mode="r")}
        opened.seek(0)
        with np.load(opened) as loaded:
            wanted = ("train", "images", "test", "labels", "test_labels")
            return {name: loaded[name] if name in wanted else np.zeros(0) for name in loaded}


def _checked(images: np.ndarray, where: str, like: np.ndarray | None = None) -> np.ndarray:
    shape = images.shape
    require(
        images.ndim == 4,
        f"{where} has rank {images.ndim} (shape {shape}): images are [N, H, W, C], so grey ones need a last axis of 1",
    )
    require(
        images.dtype == np.uint8,
        f"{where} has dtype {images.dtype}: images are uint8 in 0..255, so scale and cast them",
    )
    require(like is not None or len(images) > 0, f"{where} holds no image (shape {shape}): give it at least one")
    if like is not None:
        require(
            shape[1:] == like.shape[1:],
            f"{where} has shape {shape} but the training images {like.shape}: cut both to one size",
        )
    return images
