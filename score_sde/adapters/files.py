"""What lies at a path: which kind of checkpoint, told by what is in it and not by its name, and its reader."""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from score_sde.adapters import adm, diffusers, edm, jax_msgpack, orbax_tree, score_sde_torch, torch_pickle, weights
from score_sde.adapters.edm_pickle import LOOKED_AT, PICKLES
from score_sde.adapters.foreign import Foreign, printable
from score_sde.adapters.layout import Layout
from score_sde.errors import UsageError, require

Reader = Callable[[pathlib.Path, Any, Layout], Foreign]
"""(path, network, layout) -> what is there."""

KINDS = "a checkpoint file, a directory of them, or a diffusers model"
NUMBERED = re.compile(r"checkpoint[-_](\d+)(\.pth)?")
MODEL = "model"
"""The stem of a file of the official model's weights."""


def newest(path: str | pathlib.Path) -> pathlib.Path:
    """The checkpoint of the highest number in a directory of them or in its `checkpoints`; any other path as it is.

    Raises UsageError for what is missing, cannot be read, or is no checkpoint of another program.
    """
    try:
        return _newest(pathlib.Path(path).expanduser())
    except (OSError, RuntimeError) as error:  # RuntimeError: a home directory that is not known
        raise _unreadable(path, error) from None


def reader(path: pathlib.Path) -> Reader:
    """What reads this path; UsageError where nothing does."""
    if path.is_dir():
        return _folder_reader(path)
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except OSError as error:
        raise _unreadable(path, error) from None
    require(start, f"{path} is empty: copy or download it again")
    if weights.is_safetensors(start) or path.name.endswith(weights.INDEX) or start.startswith(torch_pickle.STARTS):
        return _read_weights
    require(
        start[:2] not in PICKLES,
        f"{path} is a pickle and not one of torch.save or of EDM's networks: loading it could run any program, so it is"
        " refused; load it in the program that made it, and save its model there with"
        " torch.save(model.state_dict(), 'model.pth')",
    )
    # A map of msgpack: up to 15 entries, or a 16- or 32-bit number of them.
    require(
        start[0] & 0xF0 == 0x80 or start[0] in (0xDE, 0xDF),
        f"{path} is no checkpoint of a known kind, or damaged (it begins with"
        f" {json.dumps(start[:16].decode('latin1'))}): name one of the official JAX or PyTorch code, or a diffusers"
        " model",
    )
    return lambda path, network, layout: jax_msgpack.read(path)


def _unreadable(path: str | pathlib.Path, error: Exception) -> UsageError:
    return UsageError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): choose another one")


def _newest(path: pathlib.Path) -> pathlib.Path:
    require(path.exists(), f"{path} does not exist: name {KINDS}")
    _refuse_own(path)
    if not path.is_dir() or _is_diffusers(path) or orbax_tree.is_one(path):
        return path
    path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = {int(m[1]): p for p in path.iterdir() if (m := NUMBERED.fullmatch(p.name))}
    if found:
        return found[max(found)]
    known = orbax_tree.find(path) or next((path / n for n in weights.names(MODEL) if (path / n).is_file()), None)
    require(
        known,
        f"{path} has neither checkpoint_<number> in it, nor config.json, nor unet/config.json, nor {MODEL}.safetensors,"
        f" nor an Orbax checkpoint: name {KINDS}",
    )
    assert known is not None
    return known


def _refuse_own(path: pathlib.Path) -> None:
    """UsageError for a run of this program, its checkpoints or one of them."""
    for run in (path, *path.absolute().parents[:2]):
        inside = path if run == path else path.absolute()
        own = (run / "config.json").is_file() and (run / "checkpoints").is_dir()
        start = f"{run}@{path.name}" if inside.parent == run / "checkpoints" else run
        require(
            not own or inside not in (run, *_checkpoints_of(run)),
            f"{path} belongs to a run of this program: name {run} as --workdir of --mode sample or train, or without"
            " --mode import and --checkpoint start a new run from its weights, by"
            f" --config.training.start_from={start}",
        )


def _checkpoints_of(run: pathlib.Path) -> list[pathlib.Path]:
    folder = run / "checkpoints"
    return [folder, *(p for p in folder.iterdir() if (p / "manifest.json").exists() or (p / "state").exists())]


def _is_diffusers(path: pathlib.Path) -> bool:
    return any((path / name).exists() for name in (diffusers.CONFIG, *diffusers.TREES))


def _folder_reader(path: pathlib.Path) -> Reader:
    if not _is_diffusers(path) and (found := orbax_tree.find(path)) is not None:
        return lambda path, network, layout: orbax_tree.read(found)
    return diffusers.read


def _read_weights(path: pathlib.Path, network: Any, layout: Layout) -> Foreign:
    """Named weights: the official PyTorch code's, or those of a diffusers model."""
    saved = weights.load(path)
    if score_sde_torch.is_model(saved):
        return score_sde_torch.read(path, saved, layout)
    if edm.is_model(saved):
        return edm.read(path, saved, network, layout)
    if adm.is_model(saved):
        return adm.read(path, saved)
    require(
        path.with_name(diffusers.CONFIG).is_file(),
        f"{path} is neither a checkpoint of the official PyTorch code, which has 'model' or parameters named"
        f" 'all_modules.', nor a diffusers model, which has {diffusers.CONFIG} beside it: name one of these"
        f"{_some_names(saved)}",
    )
    return diffusers.read(path, network, layout, saved)


def _some_names(saved: Any) -> str:
    """The first name of an array in a file whose names are not known."""
    place = []
    while isinstance(saved, dict) and saved:
        name = next((n for n, value in saved.items() if isinstance(value, dict | np.ndarray)), next(iter(saved)))
        place, saved = [*place, str(name)], saved[name]
    return f" (the first parameter here is {printable('.'.join(place))})" if place else ""
