"""The training state as earlier versions wrote it: without parts, or with other names of modules."""

from collections.abc import Callable
from typing import Any

from score_sde.networks.refinenet import EARLIER
from score_sde.training.step import TrainState


def layouts(state: TrainState) -> list[tuple[Any, Callable[[Any], TrainState]]]:
    """Every layout that a state may lie in, today's first: the state in it, and what brings one of it to today's."""
    found: list[tuple[Any, Callable[[Any], TrainState]]] = [(state, lambda found: found)]
    if len(state.params) == 1:
        (part,) = state.params
        found.append((unwrapped(state), lambda found: wrapped(found, part)))
    return found + [(with_earlier_names(s), lambda f, undo=undo: undo(with_todays_names(f))) for s, undo in found]


def unwrapped(state: TrainState) -> TrainState:
    """A state of one part in the layout of before: one tree of parameters, averages and optimizer state."""
    (part,) = state.params
    averages = {name: tree[part] for name, tree in state.averages.items()}
    return TrainState(state.step, state.params[part], averages, state.optimizer[part])


def wrapped(state: TrainState, part: str) -> TrainState:
    """A state of that layout as one of the part of this name."""
    averages = {name: {part: tree} for name, tree in state.averages.items()}
    return TrainState(state.step, {part: state.params}, averages, {part: state.optimizer})


def earlier_name(name: str) -> str:
    """What a module, as CondRCUBlock_0, was called before it had its published name; other names as they are."""
    kind, _, number = name.rpartition("_")
    return f"{EARLIER[kind]}_{number}" if kind in EARLIER else name


def with_earlier_names(tree: Any) -> Any:
    """A pytree of dicts and tuples with its modules called as before."""
    return _renamed(tree, earlier_name)


def with_todays_names(tree: Any) -> Any:
    """The inverse of `with_earlier_names`."""
    today = {earlier: name for name, earlier in EARLIER.items()}

    def name(old: str) -> str:
        kind, _, number = old.rpartition("_")
        return f"{today[kind]}_{number}" if kind in today else old

    return _renamed(tree, name)


def _renamed(tree: Any, name: Callable[[str], str]) -> Any:
    if isinstance(tree, dict):
        return {name(key): _renamed(child, name) for key, child in tree.items()}
    if isinstance(tree, tuple | list):
        children = [_renamed(child, name) for child in tree]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return tree
