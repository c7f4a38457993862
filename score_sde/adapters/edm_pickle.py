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
MARK = b"torch_utils.persistence"
"""What such files name, near their beginning."""
DEEPEST = 32
"""Modules within modules."""


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
        source = f"{KIND} ({self.kind} of {self.inner})"
        return Foreign(source, tree, taken=(("ema", "the average"),), unused=self.unused)


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
    return Pickled(found.kind, inner.kind, found.state, options, dict(_arrays(found, "", 0)), unused)


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


def _arrays(module: Inert, place: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    """(state dict's name, array) of a module and the modules in it; ValueError where they lie too deep."""
    require(depth < DEEPEST, f"modules lie within one another more than {DEEPEST} deep: this is no network of EDM")
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, np.ndarray):
                yield f"{place}{name}", value
    for name, inner in _modules(module).items():
        if isinstance(inner, Inert):
            yield from _arrays(inner, f"{place}{name}.", depth + 1)
