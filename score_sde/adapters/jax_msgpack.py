"""Official JAX checkpoints: msgpack files of Flax 0.3.1, of its training state or of bare parameters (the classifier).

The file is read as a stream, so that the arrays are all that it takes in memory.
"""

import pathlib
import re
from typing import Any

import msgpack
import numpy as np

from score_sde.adapters.foreign import NO_AVERAGE, Foreign, Tree, count, flat, float32, nested, reading

KIND = "an official JAX checkpoint"
ARRAY, SCALAR = 1, 3  # Flax's msgpack extension codes
LONGEST = 2**16  # entries of a map or list, characters of a name
OLD_NORMS = re.compile(r"GroupNorm_\d+|init_bn|bn_2|pre-pool-bn")
"""Modules whose parameters Flax 0.3.1 gave the shape (1, 1, 1, C), and Flax gives (C,) today."""


def read(path: pathlib.Path) -> Foreign:
    """The training state in a file, or the bare parameters, which then are the average; UsageError if it is damaged."""
    with reading(path, KIND):
        saved = _load(path)
        if not {"optimizer", "params_ema"} & saved.keys():
            return Foreign("a tree of bare parameters (msgpack)", _bare(saved))
        step = count("step", saved["step"])
        if "optimizer" not in saved:
            return Foreign(f"{KIND} without an optimizer", _params(saved["params_ema"]), step=step)
        params = _params(saved["optimizer"]["target"])
        if "params_ema" in saved:
            foreign = Foreign(KIND, _params(saved["params_ema"]), params, step=step)
        else:
            foreign = Foreign(f"{KIND} {NO_AVERAGE}", params, step=step)
        return foreign._replace(**_moments(saved["optimizer"]["state"]))


def read_params(path: pathlib.Path) -> Tree:
    """A bare parameter tree, such as the noise-conditional classifier's file; UsageError if it is anything else."""
    with reading(path, "a tree of bare parameters"):
        return _bare(_load(path))


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


def _moments(state: Tree) -> dict[str, Any]:
    """Adam's two moments, which every leaf of the tree holds, and the number of its updates."""
    leaves = [(path.rpartition("/"), leaf) for path, leaf in flat(state["param_states"]).items()]
    mu, nu = (nested({p: leaf for (p, _, name), leaf in leaves if name == key}) for key in ("grad_ema", "grad_sq_ema"))
    return {"mu": _params(mu), "nu": _params(nu), "adam_updates": count("number of Adam's updates", state["step"])}


def _bare(saved: Tree) -> Tree:
    """Parameters alone, or below "params" as module.init returns them."""
    return _params(saved["params"] if saved.keys() == {"params"} else saved)


def _params(tree: Tree) -> Tree:
    """Float32 parameters in today's shapes."""
    return nested({path: _today(path, leaf) for path, leaf in flat(tree).items()})


def _today(path: str, leaf: Any) -> np.ndarray:
    array = float32(path, leaf)
    module = path.split("/")[-2:][0]
    return array.reshape(-1) if OLD_NORMS.fullmatch(module) and array.shape[:-1] == (1, 1, 1) else array
