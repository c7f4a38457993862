"""Files in the layouts of EDM's and EDM2's network pickles and of ADM's .pt, written without their programs.

The pickles have the globals and fields of a network-snapshot, and a source that raises in the place of each module's;
that they are read tests the layout, not the programs that write it.
"""

import io
import pathlib
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.adapters.pickles import archive

SOURCE = "raise RuntimeError('the embedded source was executed')\n"
MAGIC = 0x1950A86A20F9469CFC6C
BUFFERS = ("freqs", "phases", "resample_filter")


class EasyDict(dict[str, Any]):
    """dnnlib's."""


class ModuleDict:
    """torch's container, whose fields are its state."""


class FloatStorage:
    """A name."""


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError(meta)


def _load_from_bytes(content: bytes) -> Any:
    raise AssertionError(content)


def _rebuild_tensor_v2(*arguments: Any) -> Any:
    raise AssertionError(arguments)


def _rebuild_parameter(*arguments: Any) -> Any:
    raise AssertionError(arguments)


PLACES: dict[str, Any] = {
    "torch": FloatStorage,
    "torch.nn.modules.container": ModuleDict,
    "torch._utils": (_rebuild_tensor_v2, _rebuild_parameter),
    "torch.storage": _load_from_bytes,
    "torch_utils.persistence": _reconstruct_persistent_obj,
    "dnnlib.util": EasyDict,
}


@contextmanager
def _named() -> Iterator[None]:
    """The names above lie where the pickles say, while they are written."""
    before = dict(sys.modules)
    for place, found in PLACES.items():
        module = types.ModuleType(place)
        for value in found if isinstance(found, tuple) else (found,):
            setattr(module, value.__name__, value)
            value.__module__ = place
        sys.modules[place] = module
        for i in range(1, len(parts := place.split("."))):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    try:
        yield
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]


class _Call:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


class _Reference(_Call):
    """A storage, a persistent identifier in torch's own streams."""


class _Pickler(pickle._Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.reduced[1] if isinstance(obj, _Reference) else None


def _pickled(*values: Any) -> bytes:
    """Pickles of protocol 2, one behind the other."""
    stream = io.BytesIO()
    for value in values:
        _Pickler(stream, 2).dump(value)
    return stream.getvalue()


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def _tensor(value: np.ndarray, storage: Any) -> _Call:
    return _Call(_rebuild_tensor_v2, storage, 0, value.shape, _strides(value.shape), False, OrderedDict())


def _storage(value: np.ndarray) -> _Call:
    """The storage of a tensor in a pickle of pickle.dump: the bytes of a legacy stream of torch's."""
    reference = _Reference(None, "storage", FloatStorage, "7", "cpu", value.size, None)
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    data = value.size.to_bytes(8, "little") + np.ascontiguousarray(value, "<f4").tobytes()
    return _Call(_load_from_bytes, _pickled(MAGIC, 1001, machine, reference, ["7"]) + data)


def _persistent(name: str, state: dict[str, Any]) -> _Call:
    meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": name, "state": state}
    return _Call(_reconstruct_persistent_obj, meta)


def _module(name: str, state: Mapping[str, np.ndarray], classes: Mapping[str, str], **fields: Any) -> Any:
    """A module with those within it; classes: by their names, ModuleDict among them, else Layer."""
    parameters, buffers, inner = {}, {}, {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        elif key in BUFFERS:
            buffers[key] = _tensor(value, _storage(value))
        else:
            parameters[key] = _Call(_rebuild_parameter, _tensor(value, _storage(value)), True, OrderedDict())
    made = {n: _module(classes.get(n, "Layer"), tree, classes) for n, tree in inner.items()}
    own = {"training": False, "_parameters": parameters, "_buffers": buffers, "_modules": made, "_hooks": OrderedDict()}
    own |= {"_non_persistent_buffers_set": set(), "skip": None, "skip_scale": np.float64(0.5), **fields}
    if name != "ModuleDict":
        return _persistent(name, own)
    container = ModuleDict()
    container.__dict__.update(own)
    return container


def write_pickle(
    path: pathlib.Path, kind: str, inner: str, options: dict[str, Any], state: Mapping[str, np.ndarray], **fields: Any
) -> pathlib.Path:
    """A network-snapshot of EDM2 (an EasyDict of ema, encoder, loss_fn, dataset_kwargs) or, of another kind, of EDM's.

    kind, inner: the classes of the preconditioning and of the network in it. options: the constructor's.
    """
    with _named():
        classes = {"enc": "ModuleDict", "dec": "ModuleDict", "unet": inner, "model": inner}
        network = _module(kind, state, classes, _init_args=(), _init_kwargs=EasyDict(options), **fields)
        others = {"loss_fn": _persistent("EDMLoss", {"P_mean": -1.2}), "dataset_kwargs": {"use_labels": True}}
        if kind == "Precond":
            content: Any = EasyDict(ema=network, encoder=_persistent("StandardRGBEncoder", {}), **others)
        else:
            content = {"ema": network, "augment_pipe": None, **others}
        path.write_bytes(pickle.dumps(content, 4))
    return path


def write_torch(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> pathlib.Path:
    """A state dict as torch.save writes it since version 1.6."""
    with _named():
        tensors = OrderedDict()
        for number, (name, value) in enumerate(state.items()):
            storage = _Reference(None, "storage", FloatStorage, str(number), "cpu", value.size, None)
            tensors[name] = _tensor(value, storage)
        program = _pickled(tensors)
    contents = {str(i): np.ascontiguousarray(value, "<f4").tobytes() for i, value in enumerate(state.values())}
    return archive(path, program, **contents)
