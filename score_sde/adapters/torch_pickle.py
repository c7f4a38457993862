"""PyTorch files read without PyTorch, by an unpickler that makes arrays and plain containers and refuses all else.

A pickle is a program that may call any function it names. This one can call only what is listed in `_known`, all of it
written here or harmless: nothing in a file is ever executed.
"""

import io
import math
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from score_sde.adapters.foreign import reading
from score_sde.errors import UsageError, require

KIND = "a PyTorch file"
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How the two formats of torch.save begin: since version 1.6, and before."""

DTYPES = {
    "Float": np.float32,
    "Double": np.float64,
    "Half": np.float16,
    "BFloat16": jnp.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}
Fetch = Callable[[np.dtype, str, int], np.ndarray]
"""(dtype, key, number of elements) -> the one-dimensional array of a storage."""


def load(path: pathlib.Path) -> Any:
    """The object that torch.save wrote, its tensors as numpy arrays.

    Raises UsageError for a damaged file, and for anything in it that is neither a tensor nor a plain container.
    """
    with reading(path, KIND), path.open("rb") as file:
        start = file.read(len(LEGACY))
        return _load_legacy(file, path) if start == LEGACY else _load_zip(path)


def _load_zip(path: pathlib.Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        require(len(pickles) == 1, f"{path} is a zip archive, but not one of torch.save: name a .pth or .bin file")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        storages: dict[str, bytes] = {}

        def fetch(dtype: np.dtype, key: str, count: int) -> np.ndarray:
            if key not in storages:
                entry = archive.getinfo(f"{root}data/{key}")
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError("its tensors are compressed, which torch.save never does")
                storages[key] = archive.read(entry)  # which also compares the checksum
            return np.frombuffer(storages[key], dtype, count)

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), fetch, path).load()


def _load_legacy(file: Any, path: pathlib.Path) -> Any:
    """Five pickles: magic number, version, facts of the machine, the object, the storages' keys; then the storages."""
    left = path.stat().st_size
    storages: dict[str, np.ndarray] = {}

    def fetch(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        nonlocal left
        if key not in storages:
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise ValueError("it ends before its tensors")
            storages[key] = np.empty(count, dtype)
        return storages[key]

    file.seek(0)
    _, _, machine, value, keys = (_Unpickler(file, fetch, path).load() for _ in range(5))
    if not machine["little_endian"]:
        raise ValueError("its numbers are big-endian")
    for key in keys:
        count, storage = int.from_bytes(file.read(8), "little"), storages[key]
        if count != storage.size or file.readinto(storage.view(np.uint8)) != storage.nbytes:
            raise ValueError("it ends before its tensors")
    return value


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, fetch: Fetch, path: pathlib.Path) -> None:
        super().__init__(file)
        self._fetch, self._path = fetch, path

    def persistent_load(self, pid: Any) -> np.ndarray:
        """A storage."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or any(v is not None for v in view):
            raise ValueError("it refers to something that is no storage")
        return self._fetch(np.dtype(DTYPES[dtype]), key, count)

    def find_class(self, module_name: str, global_name: str) -> Any:
        """What stands for a class or function of the file; UsageError if it is not known."""
        name = f"{module_name}.{global_name}".replace("__builtin__.", "builtins.", 1)
        if (known := _known(name)) is not None:
            return known
        raise UsageError(
            f"{self._path} contains {name}, which is neither a tensor nor a plain container; loading it could run any"
            " program, so it is refused: save the state dicts alone in the program that made the file"
        )


def _known(name: str) -> Any:
    """What the unpickler makes of a global, None for one that it does not know. Types of numbers become their names."""
    if storage := re.fullmatch(r"torch\.(\w+)Storage", name):
        return storage[1] if storage[1] in DTYPES else None
    if re.fullmatch(r"torch\.(bfloat16|bool|(float|u?int)\d+)", name):
        return name
    return {
        "collections.OrderedDict": _Dict,
        "builtins.set": set,
        "torch.Size": tuple,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "numpy.dtype": _NumpyDtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
        "_codecs.encode": _latin1,
    }.get(name)


class _Dict(dict):
    """An ordered dict; what else PyTorch hangs on it (versions of modules) is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _NumpyDtype:
    """A numpy dtype of plain numbers, little-endian."""

    def __init__(self, name: str, *flags: Any) -> None:
        if not re.fullmatch(r"[biuf][1248]", name):
            raise ValueError(f"numpy dtype {name!r} is no number")
        self.name = name

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] not in "<|=":
            raise ValueError("its numbers are big-endian")


def _numpy_scalar(dtype: _NumpyDtype, content: bytes) -> Any:
    return np.frombuffer(content, f"<{dtype.name}", 1)[0]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"it encodes bytes as {encoding}")
    return text.encode("latin1")


def _tensor(storage: np.ndarray, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> np.ndarray:
    """A view of the storage, which it may neither leave nor multiply; strides count elements."""
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min([offset, *shape, *strides]) < 0 or count > storage.size or (count and last >= storage.size):
        raise ValueError("a tensor lies outside its storage")
    if not count:
        return np.empty(shape, storage.dtype)
    bytewise = tuple(s * storage.itemsize for s in strides)
    return np.lib.stride_tricks.as_strided(storage[offset:], tuple(shape), bytewise, writeable=False)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor
