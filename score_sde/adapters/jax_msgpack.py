"""Official JAX checkpoints: msgpack files of Flax 0.3.1, of its training state or of bare parameters (the classifier).

The file is read as a stream, so that the arrays are all that it takes in memory.
"""

import pathlib
from typing import Any

import msgpack
import numpy as np
from flax import serialization

from score_sde.adapters.foreign import Foreign, Tree, flat, is_real, nested, reading
from score_sde.adapters.jax_tree import params_of, understood

KIND = "an official JAX checkpoint"
ARRAY, SCALAR = 1, 3  # Flax's msgpack extension codes
LONGEST = 2**16  # entries of a map or list, characters of a name


def read(path: pathlib.Path) -> Foreign:
    """The training state in a file, or the bare parameters, which then are the average; UsageError if it is damaged."""
    with reading(path, KIND):
        return understood(KIND, _load(path))


def read_params(path: pathlib.Path) -> Tree:
    """A bare parameter tree in float32, such as the noise-conditional classifier's file; UsageError for others."""
    with reading(path, "a tree of bare parameters"):
        found = flat(params_of(_load(path)))
        whole = [name for name, leaf in found.items() if not is_real(leaf.dtype)]
        if whole:
            raise ValueError(f"{whole[0]} has dtype {found[whole[0]].dtype}, which no parameter has")
        return nested({name: leaf.astype(np.float32, copy=False) for name, leaf in found.items()})


def write(path: pathlib.Path, state: Tree) -> None:
    """Write a training state as Flax's checkpoints are; its dicts may be changed by that."""
    path.write_bytes(serialization.msgpack_serialize(state, in_place=True))


def _load(path: pathlib.Path) -> Tree:
    size = path.stat().st_size
    limits = {"max_array_len": LONGEST, "max_map_len": LONGEST, "max_str_len": LONGEST}
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(
            file, ext_hook=_extension, max_buffer_size=size + 2**20, max_bin_len=size, max_ext_len=size, **limits
        )
        try:
            saved = unpacker.unpack()
        except msgpack.OutOfData:
            raise ValueError(f"it ends early, after {size} bytes") from None
        if unpacker.tell() != size:
            raise ValueError(f"{size - unpacker.tell()} bytes follow its end")
    if not isinstance(saved, dict):
        raise ValueError(f"it holds a {type(saved).__name__}, not a map")
    return _joined(saved)


def _extension(code: int, data: bytes) -> np.ndarray:
    """Flax's arrays and scalars: a list of shape, dtype name and bytes in C order."""
    if code not in (ARRAY, SCALAR):
        raise ValueError(f"extension type {code} is no array")
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    return np.frombuffer(content, np.dtype(dtype.decode())).reshape(shape)


def _joined(tree: Any) -> Any:
    """Arrays above a gigabyte, which Flax cuts into chunks, put together."""
    if not isinstance(tree, dict):
        return tree
    if "__msgpack_chunked_array__" in tree:
        shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
        return np.concatenate([tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]).reshape(shape)
    return {name: _joined(child) for name, child in tree.items()}
