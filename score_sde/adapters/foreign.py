"""The neutral value that every adapter makes of a file, and what the adapters share."""

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from score_sde.errors import UsageError

Tree = dict[str, Any]
"""Nested dicts of numpy arrays under the published Flax names."""


class Foreign(NamedTuple):
    """What a file holds, float32 throughout; None stands for what it has not.

    source: what the file is, in words. ema: the averaged parameters. params: those being trained. mu, nu: Adam's first
    and second moments. step: training steps made. adam_updates: what the optimizer counted.
    """

    source: str
    ema: Tree
    params: Tree | None = None
    mu: Tree | None = None
    nu: Tree | None = None
    step: int = 0
    adam_updates: int = 0


NO_AVERAGE = "without an average"
"""Said of a source whose parameters are taken for their average."""


def flat(tree: Tree) -> dict[str, Any]:
    """{"module/parameter": leaf} of a nested tree."""
    leaves: Any = flatten_dict(tree, sep="/")
    return leaves


def nested(leaves: dict[str, Any]) -> Tree:
    """The inverse of `flat`."""
    return unflatten_dict(leaves, sep="/")


@contextmanager
def reading(path: pathlib.Path, kind: str) -> Iterator[None]:
    """Turns whatever a damaged file makes its reader raise into a UsageError that names the file."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # what a damaged file does to a parser has no bounds
        reason = printable(str(error))
        raise UsageError(
            f"{path} cannot be read as {kind} ({type(error).__name__}{': ' if reason else ''}{reason}):"
            " it is damaged or of another kind; copy or download it again"
        ) from None


def printable(text: str, longest: int = 200) -> str:
    """What a file says, in one short line, without the control characters that a terminal would obey."""
    line = " ".join(text[:longest].split()) + "..." * (len(text) > longest)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def count(what: str, value: Any) -> int:
    """A number of steps or updates; ValueError where it is none, or more than int32 holds."""
    number = int(value)
    if not 0 <= number < 2**31:
        raise ValueError(f"its {what} is {number}")
    return number


def float32(name: str, value: Any) -> np.ndarray:
    """The array in float32, not copied where it is already; ValueError where it is no array of numbers."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is of type {type(value).__name__}, not an array")
    if value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
        raise ValueError(f"{name} has dtype {value.dtype}, not numbers")
    return value.astype(np.float32, copy=False)


def torch_to_flax(name: str, value: Any) -> np.ndarray:
    """A PyTorch parameter in Flax's layout: convolutions OIHW -> HWIO, linear maps [out, in] -> [in, out].

    Only what PyTorch calls `weight` is transposed.
    """
    array = float32(name, value)
    if name.endswith("weight") and array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif name.endswith("weight") and array.ndim == 2:
        array = array.T
    return np.ascontiguousarray(array)  # which is written twice as fast
