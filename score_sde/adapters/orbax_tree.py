"""Directories that Orbax wrote, as checkpoint_5 of today's Flax: read as numpy arrays, without a target."""

import pathlib
import re
from typing import Any

import jax
import numpy as np

from score_sde.adapters.foreign import Foreign, reading
from score_sde.adapters.jax_tree import understood
from score_sde.errors import require

KIND = "an Orbax checkpoint"
MARK = "_METADATA"


def is_one(path: pathlib.Path) -> bool:
    """Whether a directory is an Orbax checkpoint itself."""
    return (path / MARK).is_file()


def find(path: pathlib.Path) -> pathlib.Path | None:
    """The directory of arrays that a path is or holds, that of the highest step; None where there is none.

    Raises UsageError for several that are not steps.
    """
    if is_one(path):
        return path
    inner = sorted(p.parent for p in path.glob(f"*/{MARK}"))
    steps = {step: p for p in path.iterdir() if p.is_dir() and (step := _step(p)) is not None}
    if steps and set(inner) <= set(steps.values()):
        return find(steps[max(steps)])
    require(
        len(inner) < 2,
        f"{path} holds several Orbax checkpoints, {', '.join(p.name for p in inner)}: name the one to import",
    )
    return inner[0] if inner else None


def read(path: pathlib.Path) -> Foreign:
    """The parameters there, and their average if it has one; UsageError if it is damaged.

    The step is the tree's or, where that has none, the directory's.
    """
    with reading(path, KIND):
        saved = _load(path.absolute())
        found = understood(KIND, saved)
    named = next(filter(None, map(_step, (path.absolute(), path.absolute().parent))), 0)
    return found if "step" in saved else found._replace(step=named)


def _step(path: pathlib.Path) -> int | None:
    """That in the name of a directory: 24 or checkpoint_24."""
    match = re.fullmatch(r"(?:checkpoint_)?(\d{1,18})", path.name)
    return int(match[1]) if match else None


def _load(path: pathlib.Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp  # heavy, for files of other kinds

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path).item_metadata.tree
        wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=wanted))
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not a tree of names")
    return found
