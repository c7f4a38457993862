"""Array files as data: one .npy array, or an .npz file's arrays by name."""

import pathlib
import zipfile
import zlib

import numpy as np

from score_sde.data.sources import Dataset
from score_sde.errors import UsageError, require

DTYPES = ("uint8", "float32", "int32")
PICTURES = ("uint16", "bool")
"""Further ones, of pictures of another range."""

TRAIN = ("", "train", "images")
"""Names of the array to train on; that of an .npy file is empty."""


def array_file(path: str, conditions: tuple[str, ...] = ()) -> Dataset:
    """The data of an .npy file, or of an .npz file's `train` (or `images`) and, where there is one, `test` array.

    Arrays are uint8, float32 or int32 [N, ...], or uint16 or bool pictures; .npy files are memory-mapped. A condition
    `c` of an .npz file is its array `c`, one entry for each example, and `test_c` for the held-out ones; of labels
    `labels` and `test_labels` too. Raises UsageError for a missing or unreadable file, an empty array, another dtype,
    and a condition that is missing.
    """
    file = pathlib.Path(path).expanduser()
    require(
        file.is_file(), f"data.path={path} is not a file: name an .npy or .npz file of uint8 images or other arrays"
    )
    try:
        arrays = _read(file, conditions)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).split("\n")[0]
        raise UsageError(f"data.path={path} cannot be read ({reason}): write it with np.save or np.savez") from None
    names = [name for name in TRAIN if name in arrays]
    require(names, f"data.path={path} holds {sorted(arrays)}: name its image array `train` or `images`")
    train = _checked(arrays[names[0]], f"{path}:{names[0]}".removesuffix(":"))
    test = arrays.get("test", np.zeros((0, *train.shape[1:]), train.dtype))
    test = _checked(test, f"{path}:test", like=train)
    named = lambda prefix, x: {c: _condition(path, arrays, prefix + c, x) for c in conditions}
    return Dataset(train, test, named("", train), named("test_", test) if len(test) else {})


def _spellings(condition: str) -> tuple[str, ...]:
    return (condition, f"{condition}s") if condition in ("label", "test_label") else (condition,)


def _condition(path: str, arrays: dict[str, np.ndarray], name: str, examples: np.ndarray) -> np.ndarray:
    """The condition of that name, one entry for each example; labels as int32 [N]."""
    found = next((arrays[spelling] for spelling in _spellings(name) if spelling in arrays), None)
    require(
        found is not None,
        f"data.condition asks for {name.removeprefix('test_')!r} and data.path={path} has no array"
        f" {' or '.join(_spellings(name))} beside {sorted(arrays)}: add it, or leave the condition out",
    )
    assert found is not None
    require(
        len(found.shape) > 0 and len(found) == len(examples),
        f"{path}:{name} has shape {found.shape}: give one entry to each of the {len(examples)} examples",
    )
    if name not in ("label", "test_label"):
        require(
            found.dtype.name in DTYPES and found.dtype.isnative,
            f"{path}:{name} has dtype {found.dtype}: save what conditions as {', '.join(DTYPES)}",
        )
        return found
    within = found.dtype.kind in "iu" and 0 <= found.min(initial=0) <= found.max(initial=0) < 2**31
    require(
        found.size == len(examples) and within,
        f"{path}:{name} has shape {found.shape} and dtype {found.dtype}: give one integer of 0 or more to each of the"
        f" {len(examples)} images, or leave it out",
    )
    return found.reshape(-1).astype(np.int32)


def _read(file: pathlib.Path, conditions: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or that of an .npy file under the name ""."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            return {"": np.load(file, mmap_mode="r")}
        opened.seek(0)
        wanted = {*TRAIN, "test"} | {s for c in conditions for p in ("", "test_") for s in _spellings(p + c)}
        with np.load(opened) as loaded:
            return {name: loaded[name] if name in wanted else np.zeros(0) for name in loaded}


def _checked(x: np.ndarray, where: str, like: np.ndarray | None = None) -> np.ndarray:
    order = f"of another byte order: save it by .astype('{x.dtype.name}')"
    require(x.dtype.isnative, f"{where} has dtype {x.dtype}, {order}")
    require(
        x.dtype.name in (*DTYPES, *PICTURES),
        f"{where} has dtype {x.dtype}: save pictures as uint8 or uint16, real numbers as float32, tokens as int32",
    )
    require(x.ndim > 1, f"{where} has rank {x.ndim} (shape {x.shape}): the first axis counts examples, the rest is one")
    require(like is not None or x.size > 0, f"{where} holds no example (shape {x.shape}): give it at least one")
    if like is not None:
        require(
            x.shape[1:] == like.shape[1:] and x.dtype == like.dtype,
            f"{where} has shape {x.shape} and dtype {x.dtype} but the training data {like.shape} and {like.dtype}: make"
            " both alike",
        )
    return x
