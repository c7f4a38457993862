"""The operations of a traced program, those inside its loops, calls and custom gradients too."""

from collections.abc import Iterator
from typing import Any

import jax


def equations(traced: Any) -> Iterator[Any]:
    """All equations of a jaxpr, open or closed, and of those in their parameters."""
    jaxpr = getattr(traced, "jaxpr", traced)
    for equation in jaxpr.eqns:
        yield equation
        nested = lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=nested):
            if nested(value):
                yield from equations(value)
