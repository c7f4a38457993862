"""How exactly products of float32 are made: accelerators round their operands, unless asked not to."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def at(precision: str, function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose products and convolutions, and their gradients taken inside of it, have that precision.

    precision: "default", the backend's fast one, "high" or "highest", whatever jax_default_matmul_precision is.
    Products that state their own keep it, those of bfloat16 are what they are. On processors all three are float32's.
    """

    @functools.wraps(function)
    def traced(*arguments: P.args, **options: P.kwargs) -> R:
        with jax.default_matmul_precision(precision):
            return function(*arguments, **options)

    return traced
