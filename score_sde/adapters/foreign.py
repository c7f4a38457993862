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
    """What a checkpoint holds, in the dtypes that it has there; None stands for what it has not.

    source: what it is, in words. ema: the averaged parameters. params: those being trained. mu, nu: Adam's first and
    second moments. step: training steps made. adam_updates: what the optimizer counted. taken: every part of it that
    is used, and what for. unused: those that are not.
    """

    source: str
    ema: Tree
    params: Tree | None = None
    mu: Tree | None = None
    nu: Tree | None = None
    step: int = 0
    adam_updates: int = 0
    taken: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


BFLOAT16 = "bfloat16"
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


def array(name: str, value: Any) -> np.ndarray:
    """The array itself; ValueError where it is no array of numbers."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{name} is of type {type(value).__name__}, not an array")
    if value.dtype.kind not in "fiubc" and value.dtype.name != BFLOAT16:
        raise ValueError(f"{name} has dtype {value.dtype}, not numbers")
    return value


def is_real(dtype: np.dtype) -> bool:
    """Whether parameters may have this dtype: a floating-point one."""
    return dtype.kind == "f" or dtype.name == BFLOAT16


def torch_to_flax(name: str, value: Any) -> np.ndarray:
    """A PyTorch parameter in Flax's layout: convolutions OIHW -> HWIO, linear maps [out, in] -> [in, out].

    Only what PyTorch calls `weight` is transposed.
    """
    found = array(name, value)
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(found.ndim) if name.endswith("weight") else None
    turned = found if axes is None else found.transpose(axes)
    return np.asarray(turned, order="C")  # which is written twice as fast


def flax_to_torch(name: str, value: np.ndarray) -> np.ndarray:
    """The inverse of `torch_to_flax`; `name` is PyTorch's."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim) if name.endswith("weight") else None
    # safetensors 0.8 writes the bytes of a transposed array in the wrong order.
    return np.ascontiguousarray(value if axes is None else value.transpose(axes))
