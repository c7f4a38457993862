"""PyTorch files read without PyTorch, as arrays and plain containers; whatever else they hold is refused.

Their pickles are run by a machine of our own (unpickler.py), which can call only what is listed in `_known`, all of it
written here: nothing in a file is ever executed. Nor is the program of a TorchScript archive, of which only the tensors
are read; its classes, `__torch__.<anything>`, stand for objects that keep a dict.
"""

import io
import math
import operator
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from score_sde.adapters.foreign import printable, reading
from score_sde.adapters.unpickler import Allowance, Inert, Stateful, Unpickler
from score_sde.errors import UsageError, require

KIND, SCRIPT = "a PyTorch file", "a TorchScript archive"
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How the two formats of torch.save begin: since version 1.6, and before."""
STARTS = (ZIP, LEGACY[:4])
ZIP_END, ZIP_END_SIZE = b"PK\x05\x06", 22
LONGEST = 2**24
"""Bytes of the pickles of a file; those of a large model take half a million."""

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
Known = Callable[[str], Any]
"""The full name of a class or function -> what is made of it, None for one that is not known."""


def load(path: pathlib.Path) -> Any:
    """The object that torch.save wrote, its tensors as numpy arrays and its tuples as lists.

    Raises UsageError for a damaged file, and for anything in it that is neither a tensor nor a plain container.
    """
    with reading(path, KIND), path.open("rb") as file:
        allowance = Allowance(path.stat().st_size)
        start = file.read(len(LEGACY))
        file.seek(0)
        if start == LEGACY:
            return _load_legacy(file, path.stat().st_size, path, allowance, _known)
        return _load_zip(file, path, allowance, _known)


def load_pickle(path: pathlib.Path, known: Known, kind: str) -> Any:
    """The object of pickle.dump's file, whose tensors have their storages within, each a stream of torch.save's.

    known: what stands for the names that are no tensor's and no plain container's. Raises UsageError as `load` does.
    """
    with reading(path, kind), path.open("rb") as file:
        allowance = Allowance(path.stat().st_size)

        def storage(content: bytes) -> _Storage:
            if not isinstance(content, bytes) or not content.startswith(LEGACY):
                raise ValueError("a storage is not what torch.save writes")
            found = _load_legacy(io.BytesIO(content), len(content), path, allowance, _known)
            if not isinstance(found, _Storage):
                raise ValueError("a storage is none")
            return found

        def find(name: str) -> Any:
            return storage if name == "torch.storage._load_from_bytes" else known(name) or _known(name)

        value = _unpickler(_no_storage, path, allowance, find).run(file)
        if file.read(1):
            raise ValueError("bytes follow its end")
        return value


def is_script(path: pathlib.Path) -> bool:
    """Whether the file is a zip archive of TorchScript, which has constants beside its tensors."""
    with reading(path, SCRIPT):
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_script(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a TorchScript archive by the way to them through its modules, such as "layers.conv.weight".

    Raises UsageError where `load` does. Other attributes, such as strides, are left out.
    """
    with reading(path, SCRIPT), path.open("rb") as file:
        allowance = Allowance(path.stat().st_size)
        return dict(_tensors_of(_load_zip(file, path, allowance, _known_to_scripts), allowance))


def _tensors_of(root: Any, allowance: Allowance) -> Iterator[tuple[str, np.ndarray]]:
    """Those of a module and the modules in it, each of them once: some may be shared, or lie in themselves."""
    left, seen = [("", root)], set()
    while left:
        place, module = left.pop()
        if not isinstance(module, Inert) or id(module) in seen:
            continue
        seen.add(id(module))
        for name, value in module.state.items():
            if isinstance(name, str):
                allowance.spend(len(place) + len(name))
                if isinstance(value, Inert):
                    left.append((f"{place}{name}.", value))
                elif isinstance(value, np.ndarray):
                    yield f"{place}{name}", value


def _load_zip(file: BinaryIO, path: pathlib.Path, allowance: Allowance, known: Known) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        require(len(pickles) == 1, f"{path} is a zip archive, but not one of torch.save: name a .pth or .bin file")
        _check_end(file)
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and _stored(archive, f"{root}byteorder", allowance) != b"little":
            raise ValueError("its numbers are big-endian")
        storages: dict[str, bytes] = {}

        def fetch(dtype: np.dtype, key: str, count: int) -> np.ndarray:
            if key not in storages:
                storages[key] = _stored(archive, f"{root}data/{key}", allowance)
            return np.frombuffer(storages[key], dtype, count)

        program = _stored(archive, pickles[0], allowance)
        if len(program) > LONGEST:
            raise ValueError(f"its pickle has {len(program)} bytes, more than {LONGEST}")
        return _unpickler(fetch, path, allowance, known).run(io.BytesIO(program))


def _check_end(file: BinaryIO) -> None:
    """ValueError for bytes behind the archive, which zipfile would pass over."""
    file.seek(-ZIP_END_SIZE, io.SEEK_END)
    if file.read(len(ZIP_END)) != ZIP_END:
        raise ValueError("bytes follow its end")


def _stored(archive: zipfile.ZipFile, name: str, allowance: Allowance) -> bytes:
    """An entry of the archive, its checksum compared; ValueError where it is compressed."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its entries are compressed, which torch.save never does")
    allowance.spend(entry.file_size)
    return archive.read(entry)


def _no_storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
    raise ValueError("it refers to a storage outside")


def _load_legacy(file: BinaryIO, left: int, path: pathlib.Path, allowance: Allowance, known: Known) -> Any:
    """Five pickles: magic number, version, facts of the machine, the object, the storages' keys; then the storages.

    left: the stream's length in bytes.
    """
    storages: dict[str, np.ndarray] = {}

    def fetch(dtype: np.dtype, key: str, count: int) -> np.ndarray:
        nonlocal left
        if key not in storages:
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise ValueError("it ends before its tensors")
            storages[key] = np.empty(count, dtype)
        return storages[key]

    programs = io.BytesIO(file.read(LONGEST))
    _, _, machine, value, keys = (_unpickler(fetch, path, allowance, known).run(programs) for _ in range(5))
    if not machine["little_endian"]:
        raise ValueError("its numbers are big-endian")
    file.seek(programs.tell())
    for key in keys:
        count, storage = int.from_bytes(file.read(8), "little"), storages.pop(key)
        if count != storage.size or file.readinto(storage.view(np.uint8)) != storage.nbytes:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError("it ends before its tensors")
    if storages or file.read(1):
        raise ValueError("bytes follow its end")
    return value


def _unpickler(fetch: Fetch, path: pathlib.Path, allowance: Allowance, known: Known) -> Unpickler:
    def refer(pid: list[Any]) -> _Storage:
        kind, dtype, key, _, count, *view = pid if isinstance(pid, list) else [pid]
        if kind != "storage" or any(v is not None for v in view):
            raise ValueError("it refers to something that is no storage")
        return _Storage(fetch(np.dtype(DTYPES[dtype]), key, operator.index(count)), allowance)

    return Unpickler(lambda name: _find(name, path, known), refer, allowance)


def _find(name: str, path: pathlib.Path, known: Known) -> Any:
    """What stands for a class or function of the file; UsageError if it is not known."""
    name = name.replace("__builtin__.", "builtins.", 1)
    if (found := known(name)) is not None:
        return found
    require(
        not re.fullmatch(r"torch\.(_utils\._rebuild_\w+|(storage\.)?\w+Storage)", name),
        f"{path} contains {printable(name)}: a tensor that is not dense, or of a type that is not read here; convert it"
        " to float32 in the program that made the file",
    )
    raise UsageError(
        f"{path} contains {printable(name)}, which is neither a tensor nor a plain container; loading it could run any"
        " program, so it is refused: save the state dicts alone in the program that made the file"
    )


def _known(name: str) -> Any:
    """What is made of a global, None for one that is not known. Types of numbers become their names."""
    if storage := re.fullmatch(r"torch\.(\w+)Storage", name):
        return storage[1] if storage[1] in DTYPES else None
    if re.fullmatch(r"torch\.(bfloat16|bool|(float|u?int)\d+)", name):
        return name
    return {
        "collections.OrderedDict": _plain(dict),
        "builtins.set": _plain(set),
        "torch.Size": _plain(list),
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "numpy.dtype": _NumpyDtype,
        "numpy.core.multiarray.scalar": _numpy_scalar,
        "numpy._core.multiarray.scalar": _numpy_scalar,
        "_codecs.encode": _latin1,
    }.get(name)


def _known_to_scripts(name: str) -> Any:
    """The same for TorchScript's archives, which have modules and lists of integers besides."""
    if name.startswith("__torch__."):
        return Inert
    return _plain(list) if name == "torch.jit._pickle.build_intlist" else _known(name)


def _plain(container: type) -> Callable[..., Any]:
    """A container made of a list alone, whose length the unpickler has counted."""

    def make(*items: list[Any]) -> Any:
        if not all(isinstance(i, list) for i in items):
            raise ValueError(f"it makes a {container.__name__} of something that is no list")
        return container(*items)

    return make


class _NumpyDtype(Stateful):
    """A numpy dtype of plain numbers, little-endian."""

    def __init__(self, name: str, *flags: Any) -> None:
        if not re.fullmatch(r"[biuf][1248]", name):
            raise ValueError(f"numpy dtype {name!r} is no number")
        self.name = name

    def receive(self, state: Any) -> None:
        if state[1] not in "<|=":
            raise ValueError("its numbers are big-endian")


def _numpy_scalar(dtype: _NumpyDtype, content: bytes) -> Any:
    return np.frombuffer(content, f"<{dtype.name}", 1)[0]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"it encodes bytes as {encoding}")
    return text.encode("latin1")


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers that tensors are views of; a type of its own, so that no tensor passes for one."""

    array: np.ndarray
    allowance: Allowance


def _tensor(storage: _Storage, offset: int, shape: list[int], strides: list[int], *_: Any) -> np.ndarray:
    """A view of the storage, which it may neither leave nor multiply; strides count elements."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor is made of something that is no storage")
    array, offset, shape, strides = storage.array, _natural(offset), _naturals(shape), _naturals(strides)
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if count > array.size or (count and last >= array.size):
        raise ValueError("a tensor lies outside its storage")
    storage.allowance.spend(count * array.itemsize)
    if not count:
        return np.empty(shape, array.dtype)
    bytewise = tuple(s * array.itemsize for s in strides)
    return np.lib.stride_tricks.as_strided(array[offset:], tuple(shape), bytewise, writeable=False)


def _natural(number: Any) -> int:
    """A number of elements as Python's own integer, which does not wrap around as numpy's do."""
    number = operator.index(number)
    if not 0 <= number < 2**63:
        raise ValueError("a tensor lies outside its storage")
    return number


def _naturals(numbers: Any) -> list[int]:
    if not isinstance(numbers, list) or len(numbers) > 64:
        raise ValueError("a tensor has no shape, or more than 64 dimensions")
    return [_natural(n) for n in numbers]


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor
