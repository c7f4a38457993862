"""Blocks that are alike compiled once: the body of a loop over their parameters, which keep their own names.

A compiler takes every block by itself, and its time grows with their number. Inside the program the parameters are laid
behind one another, so that a loop can take them in turn; outside nothing changes.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.typing import Array

Calls = Sequence[Callable[..., Array]]


def runs_of_equals(kinds: Sequence[Hashable]) -> list[list[int]]:
    """The indices of neighbours that are equal: of aabc [[0, 1], [2], [3]]."""
    return [list(run) for _, run in groupby(range(len(kinds)), key=lambda i: kinds[i])]


def in_one_loop(
    step: Callable[[Calls, Array, Any], Array],
    modules: Sequence[Callable[..., nn.Module]],
    params: Sequence[Sequence[Any]],
    h: Array,
    xs: Sequence[Any],
) -> list[Array]:
    """What step after step returns, each given what the one before it did: h_i = step(calls_i, h_{i-1}, xs_i).

    calls_i: the modules with the parameters of the i-th step, params[i]. xs: pytrees of one structure, of arrays or
    numbers.
    """

    def body(h: Array, stacked: Any) -> tuple[Array, Array]:
        own, x = stacked
        calls: Any = [partial(make(parent=None).apply, {"params": p}) for make, p in zip(modules, own)]
        h = step(calls, h, x)
        return h, h

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(params, xs, strict=True))
    _, outputs = jax.lax.scan(body, h, stacked)
    return list(outputs)
