"""EDM's and EDM2's own files (Karras et al. 2022, 2024): pickles of networks with their program, which is not run.

A persistent object there is a call with the source of its module, the name of its class and its fields. Here that call
keeps class and fields and does nothing (unpickler.py); tensors are read as torch.save's. Everything else that such a
file may name is refused.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from score_sde.adapters import torch_pickle
from score_sde.adapters.foreign import Foreign, printable
from score_sde.adapters.unpickler import Inert, Plain
from score_sde.errors import require

KIND = "a network pickle of EDM"
MARK, LOOKED_AT = b"torch_utils.persistence", 2**20
"""What such files name within so many bytes."""
PICKLES = {b"\x80" + bytes([protocol]) for protocol in range(2, 6)}
"""How pickles begin."""


class Module(Inert):
    """A persistent object: the name of its class, and its fields as its state."""

    __slots__ = ("kind",)

    def __init__(self, kind: str, state: dict[Any, Any]) -> None:
        super().__init__()
        self.kind = kind
        self.receive(state)


class Pickled(NamedTuple):
    """A network in such a file.

    kind: the class of its preconditioning. inner: that of the network within. fields: the preconditioning's. options:
    what both were made with, by the names of the release. state: parameters and buffers under their state dict's names.
    unused: what else the file holds.
    """

    kind: str
    inner: str
    fields: dict[str, Any]
    options: dict[str, Any]
    state: dict[str, np.ndarray]
    unused: tuple[str, ...]

    def foreign(self, tree: Any) -> Foreign:
        """The tree as what the file holds: the average alone."""
        return Foreign(
            f"{KIND} ({self.kind} of {self.inner})", tree, taken=(("ema", "the average"),), unused=self.unused
        )


def is_one(path: pathlib.Path) -> bool:
    """Whether a path is a pickle that names persistent objects; False too for what cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except OSError:
        return False
    return start[:2] in PICKLES and MARK in start


def load(path: pathlib.Path) -> Pickled:
    """The network under `ema`, nothing in the file executed; UsageError where it is damaged or holds none."""
    root = torch_pickle.load_pickle(path, _known, KIND)
    found = root.get("ema") if isinstance(root, Mapping) else root
    require(
        isinstance(found, Module) and len(_modules(found)) > 0,
        f"{path} has no network under 'ema': name network-snapshot-<number>.pkl of EDM or EDM2, or a released .pkl",
    )
    assert isinstance(found, Module)
    inner = next((module for module in _modules(found).values() if isinstance(module, Module)), found)
    options = {**_options(inner), **_options(found)}
    unused = tuple(printable(str(name)) for name in root if name != "ema") if isinstance(root, Mapping) else ()
    return Pickled(found.kind, inner.kind, found.state, options, dict(_arrays(found)), unused)


def _known(name: str) -> Any:
    """What stands for a global; None for one that is not known."""
    return {
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
        "torch.nn.modules.container.ModuleDict": Inert,
        "dnnlib.util.EasyDict": Plain,
    }.get(name)


def _persistent(meta: Any) -> Module:
    """A persistent object without its program; ValueError for anything but an object of a class."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise ValueError("a persistent object is none of a class")
    return Module(printable(meta["class_name"], 40), meta["state"])


def _modules(module: Inert) -> Mapping[Any, Any]:
    found = module.state.get("_modules")
    return found if isinstance(found, Mapping) else {}


def _options(module: Inert) -> dict[str, Any]:
    found = module.state.get("_init_kwargs")
    return {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}


def _arrays(root: Inert) -> Iterator[tuple[str, np.ndarray]]:
    """(state dict's name, array) of a module and the modules in it, each of them once."""
    left, seen = [("", root)], set()
    while left:
        place, module = left.pop()
        if id(module) in seen:
            raise ValueError("a module lies in two places")
        seen.add(id(module))
        for kind in ("_parameters", "_buffers"):
            for name, value in (module.state.get(kind) or {}).items():
                if isinstance(value, np.ndarray):
                    yield f"{place}{name}", value
        left += [(f"{place}{name}.", inner) for name, inner in _modules(module).items() if isinstance(inner, Inert)]
