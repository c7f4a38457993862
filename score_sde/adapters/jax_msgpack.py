"""Official JAX checkpoints: msgpack files of Flax 0.3.1, of its training state or of bare parameters (the classifier).

The file is read as a stream, so that the arrays are all that it takes in memory.
"""

import pathlib
import re
from typing import Any

import msgpack
import numpy as np

from score_sde.adapters.foreign import Foreign, Tree, float32, reading

KIND = "an official JAX checkpoint"
ARRAY, SCALAR = 1, 3  # Flax's msgpack extension codes
LONGEST = 2**16  # entries of a map or list, characters of a name
OLD_NORMS = re.compile(r"GroupNorm_\d+|init_bn|bn_2|pre-pool-bn")
"""Modules whose parameters Flax 0.3.1 gave the shape (1, 1, 1, C), and Flax gives (C,) today."""


def read(path: pathlib.Path) -> Foreign:
    """The training state in a file, or the bare parameters, which then are the average; UsageError if it is damaged."""
    with reading(path, KIND):
        saved = _load(path)
        if not {"optimizer", "params_ema"} <= saved.keys():
            return Foreign("a tree of bare parameters (msgpack)", _params(saved))
        optimizer = saved.pop("optimizer")
        moments = optimizer["state"]["param_states"]
        return Foreign(
            KIND,
            ema=_params(saved["params_ema"]),
            params=_params(optimizer["target"]),
            mu=_params(_moment(moments, "grad_ema")),
            nu=_params(_moment(moments, "grad_sq_ema")),
            step=int(saved["step"]),
            adam_updates=int(optimizer["state"]["step"]),
            ema_updates=int(saved["step"]),
        )


def read_params(path: pathlib.Path) -> Tree:
    """A bare parameter tree, such as the noise-conditional classifier's file; UsageError if it is anything else."""
    with reading(path, "a tree of bare parameters"):
        return _params(_load(path))


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


def _moment(tree: Tree, name: str) -> Tree:
    """One of the two moments that every leaf of the tree holds."""
    return {k: child[name] if name in child else _moment(child, name) for k, child in tree.items()}


def _params(tree: Tree, prefix: str = "") -> Tree:
    """Float32 parameters in today's shapes."""
    result: Tree = {}
    for name, child in tree.items():
        if isinstance(child, dict):
            result[name] = _params(child, f"{prefix}{name}/")
            continue
        if not isinstance(child, np.ndarray):
            raise ValueError(f"{prefix}{name} is of type {type(child).__name__}, not an array")
        module = prefix.rstrip("/").rpartition("/")[2]
        old = OLD_NORMS.fullmatch(module) and child.shape[:-1] == (1, 1, 1)
        result[name] = float32(prefix + name, child.reshape(-1) if old else child)
    return result
