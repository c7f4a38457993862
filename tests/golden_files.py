"""Read the recorded outputs of other people's code in tests/golden, and compare with them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.processes import QUICK

GOLDEN = Path(__file__).parent / "golden"
Arrays = dict[str, np.ndarray]
Tree = dict[str, Any]


@cache
def load(name: str, folder: str = "song2021") -> Arrays:
    """All arrays of golden/<folder>/<name>.npz; the result is shared: do not write to it."""
    with np.load(GOLDEN / folder / f"{name}.npz") as arrays:
        return dict(arrays)


def unpack_flat(arrays: Arrays, prefix: str = "") -> Arrays:
    """Packed parameters -> {name: array}; the index is a JSON list of [name, shape, offset] into one float32 vector."""
    flat = arrays[f"{prefix}params_flat"]
    index = json.loads(str(arrays[f"{prefix}params_index"]))
    return {name: flat[offset : offset + int(np.prod(shape))].reshape(shape) for name, shape, offset in index}


def unpack(arrays: Arrays, prefix: str = "") -> Tree:
    """Packed parameters -> nested dict, {"params": {"Conv_0": {"kernel": ...}}}."""
    tree: Tree = {}
    for name, value in unpack_flat(arrays, prefix).items():
        *branches, leaf = name.split("/")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return tree


def relative_error(a: Any, b: Any) -> float:
    """max|a - b| / max|b| in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return float(np.abs(a - b).max() / np.abs(b).max())


TOLERANCES = {
    "SDEs": 1e-5,
    "VE discretisation": 5 * 2.9e-5,
    "losses": 5 * 2.1e-7,
    "predictors": 5 * 9.8e-6,
    "correctors": 5 * 9e-8,
    "predictor-corrector runs": 5 * 1.6e-6,
    "ODE endpoints": 5 * 9.3e-5,
    "likelihoods": 5 * 2.3e-7,
    "networks": 5 * 1.5e-6,
    "optimizer": 1e-6,
    "checkpoints": 1e-5,
    "EDM": 1e-12,
    "latent": 5 * 6e-16,
    "latent, float32": 9e-6,
}
"""Five times by which the official JAX and PyTorch codes differ from one another (golden/README.md); for the optimizer
and the checkpoints, of which it states nothing, what float32 allows; for EDM, recorded in float64, what that allows;
for latent diffusion five times by which an independent replay differs, in float32 just that (systems/README.md)."""


class Comparison(NamedTuple):
    """One recorded array, all of it unless `rows` says otherwise, and how near the code under test came."""

    file: str
    key: str
    kind: str
    error: float
    rows: str


COMPARISONS: list[Comparison] = []
"""What `agree` has been asked in this process; tests/parity.py makes docs/parity.md of it."""


def agree(
    ours: Any, file: str, key: str, kind: str, rows: Any = ..., which: str = "", folder: str = "song2021"
) -> None:
    """Assert that an array is the recorded one within the tolerance of its kind; `which` names the rows compared."""
    ours, expected = np.asarray(ours)[rows], load(file, folder)[key][rows]
    zero = not np.abs(expected).any()
    error = float(np.abs(ours).max()) if zero else relative_error(ours, expected)
    COMPARISONS.append(Comparison(file, key, kind, error, which))
    assert error < TOLERANCES[kind], f"{file}.npz {key}: {error:.2e}"


def quick_jit(f: Callable[..., Any]) -> Callable[..., Any]:
    """jax.jit without XLA's optimisations: a network compiles four times faster, for runs of a few milliseconds."""
    return jax.jit(f, compiler_options=QUICK)
