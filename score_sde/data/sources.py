"""Where images come from: uint8 arrays [N, H, W, C], some to train on and some held out. No jax in here."""

import importlib.resources
import pathlib
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from score_sde.errors import UsageError, require

DIGITS_TRAIN = 1500


class Images(NamedTuple):
    """Images to train on and held-out ones (perhaps none), uint8 [N, H, W, C]."""

    train: np.ndarray
    held_out: np.ndarray


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

    Arrays are uint8 [N, H, W, C]; .npy files are memory-mapped. Raises UsageError for a missing or unreadable file,
    another rank or another dtype.
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
    return Images(train, _checked(test, f"{path}:test", like=train))


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or that of an .npy file under the name ""."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            return {"": np.load(file, mmap_mode="r")}
        opened.seek(0)
        with np.load(opened) as loaded:
            wanted = ("train", "images", "test")
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
