"""The order in which a network calls its modules, found by replaying it: what PyTorch's numbered modules follow.

Replaying keeps the architecture written down once, in networks/.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn

from score_sde.adapters.foreign import Tree, flat
from score_sde.networks.group_norm import GroupNorm, group_count


class Child(NamedTuple):
    """A direct submodule of the network and its parameters' paths below it, such as "Conv_0/kernel".

    pyramid: it has no parameters and resamples images, not features.
    """

    name: str
    leaves: tuple[str, ...]
    pyramid: bool

    @property
    def kind(self) -> str:
        """The name without its counter."""
        return self.name.rpartition("_")[0]

    def paths(self) -> Iterator[tuple[str, str, str]]:
        """(path in the tree, submodule or "", leaf) of every parameter."""
        for leaf in self.leaves:
            part, _, last = leaf.rpartition("/")
            yield f"{self.name}/{leaf}", part, last


class Layout(NamedTuple):
    """The network's children in call order, and the number of groups of each GroupNorm by its path."""

    children: tuple[Child, ...]
    groups: dict[str, int]


def replay(trace: Callable[[], Tree]) -> tuple[Layout, Tree]:
    """The layout of the network that `trace` calls once, and the parameters it returns; abstract ones cost nothing."""
    calls: dict[str, int] = {}
    groups: dict[str, int] = {}
    images = 0

    def record(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        nonlocal images
        module, path = context.module, context.module.path
        if context.method_name == "__call__":
            channels = getattr(arguments[0], "shape", (0,))[-1]  # other networks' blocks take lists
            if isinstance(module, GroupNorm):
                groups["/".join(path)] = group_count(channels, module.groups)
            if not path:
                images = channels
            elif len(path) == 1:
                calls[path[0]] = channels
        return call(*arguments, **options)

    with nn.intercept_methods(record):
        params = trace()
    leaves = {name: tuple(flat(params.get(name, {}))) for name in calls}
    children = [Child(name, leaves[name], not leaves[name] and calls[name] == images) for name in calls]
    return Layout(tuple(children), groups), params
