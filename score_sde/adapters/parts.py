"""The names under which programs keep parameters and their averages, and which of a checkpoint's are taken for what."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

AVERAGES = ("params_ema", "ema_params", "unet_ema", "model_ema", "ema_model", "ema", "shadow_params")
"""Of averaged parameters, the first of them that is there."""
PARAMETERS = ("params", "model", "unet", "state_dict", "score_model", "net", "network", "online_model")
"""Of the parameters themselves."""
WRAPPERS = ("module", "_orig_mod", *PARAMETERS, *AVERAGES)
"""What modules around the network put before its names: DataParallel, torch.compile, Lightning, averages."""
AVERAGE, RAW, MOMENTS, STEP = "the average", "the parameters", "Adam's moments", "the step"
"""What parts are taken for."""


def first(names: Iterable[str], saved: Mapping[str, Any]) -> str | None:
    """The first of the names whose part of a checkpoint holds others."""
    return next((name for name in names if isinstance(saved.get(name), Mapping) and saved[name]), None)


def innermost(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a tree that may keep them below `params` or an average's name, beside counters."""
    inner = first((*AVERAGES, *PARAMETERS), tree)
    return tree if inner is None else innermost(tree[inner])


def unwrapped(name: str) -> tuple[str, str]:
    """(wrappers, name): module._orig_mod.conv_in.weight is conv_in.weight within module._orig_mod."""
    parts = [part for i, part in enumerate(name.split(".")) if not (i and part == "_orig_mod")]
    inner = next((i for i, part in enumerate(parts[:-1]) if part not in WRAPPERS), len(parts) - 1)
    return ".".join(parts[:inner]), ".".join(parts[inner:])


class Tree(NamedTuple):
    """One set of parameters by name (an average perhaps without names), where it stands, whether it is averaged."""

    place: str
    state: dict[str, Any] | list[Any]
    averaged: bool


class Chosen(NamedTuple):
    """What stands for the average and for the parameters, and the places of what is not used."""

    average: Tree | None
    params: Tree | None
    unused: tuple[str, ...]

    @property
    def taken(self) -> tuple[tuple[str, str], ...]:
        """The place of each, and what it is taken for; parameters alone are taken for the average."""
        found = [(tree, role) for tree, role in ((self.average, AVERAGE), (self.params, RAW)) if tree is not None]
        found = [(found[0][0], AVERAGE)] if len(found) == 1 else found
        return tuple((tree.place or "its parameters", role) for tree, role in found)


def choose(saved: Mapping[Any, Any], is_ours: Callable[[str], bool]) -> Chosen:
    """The parameters and the average in what torch.save wrote; `is_ours` knows a network's name without wrappers."""
    found = list(_trees(saved, "", is_ours))
    trees, others = [t for t in found if isinstance(t, Tree)], [t for t in found if isinstance(t, str)]
    averages = sorted((t for t in trees if t.averaged), key=lambda t: _rank(t.place))
    raws = [t for t in trees if not t.averaged]
    unused = (*others, *(t.place for t in (*averages[1:], *raws[1:])))
    return Chosen(averages[0] if averages else None, raws[0] if raws else None, unused)


def _trees(saved: Mapping[Any, Any], place: str, is_ours: Callable[[str], bool]) -> Iterator[Tree | str]:
    """Every tree below a place, and the places that hold none."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in saved.items():
        where = f"{place}.{key}".lstrip(".")
        if key == "shadow_params" and isinstance(value, list):
            yield Tree(where, value, True)
        elif isinstance(value, Mapping) and value:
            inner = list(_trees(value, where, is_ours))
            yield from inner if any(isinstance(t, Tree) for t in inner) else [where]
        else:
            outer, name = unwrapped(str(key))
            groups.setdefault(outer, {})[name] = value
    for outer, state in groups.items():
        where = ".".join(filter(None, (place, outer)))
        if any(map(is_ours, state)):
            yield Tree(where, state, _is_averaged(where))
        else:
            yield from (f"{where}.{name}".lstrip(".") for name in state)


def _is_averaged(place: str) -> bool:
    """By the innermost word of a place that tells; ema.online_model holds what ema.ema_model is the average of."""
    telling = [part for part in place.split(".") if part in (*AVERAGES, "online_model")]
    return bool(telling) and telling[-1] in AVERAGES


def _rank(place: str) -> int:
    return min(AVERAGES.index(part) for part in place.split(".") if part in AVERAGES)


def is_counter(value: Any) -> bool:
    """Whether something in a state dict is a single number, such as how often an average was updated."""
    return isinstance(value, int | float | bool | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
