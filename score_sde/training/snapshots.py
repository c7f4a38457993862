"""Snapshots of the power-function averages, written while training, and averages of other widths made of them."""

import pathlib
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from score_sde.config.averages import width
from score_sde.devices.arrays import collect
from score_sde.errors import UsageError, require
from score_sde.storage.files import whole
from score_sde.storage.seals import Seals
from score_sde.training.layout import earlier_name
from score_sde.training.posthoc import coefficients

IMAGES = "images"


def snapshot_path(folder: pathlib.Path, step: int) -> pathlib.Path:
    """Where the snapshot of a step is."""
    return folder / f"{step:08d}.npz"


def save_snapshot(path: pathlib.Path, averages: dict[str, Any], images: int) -> None:
    """Write the averages that have a width, and how many images had been seen: the same bytes whenever written."""
    with whole(path) as unfinished:
        np.savez(unfinished, **{IMAGES: np.int64(images)}, **_arrays(averages))
    Seals(path.parent).seal(path.name)


def discard_after(folder: pathlib.Path, step: int) -> None:
    """Remove the snapshots later than a step: a run that resumes there writes them anew, or others."""
    later = [path for found, path in _steps(folder, Seals(folder).names()).items() if found > step]
    if later:
        Seals(folder).forget(*(path.name for path in later))
    for path in later:
        path.unlink(missing_ok=True)


def reconstruct(folder: pathlib.Path, step: int, averages: dict[str, Any], images: int, std: float) -> Any:
    """The average of another width, as if it had been tracked to this step: a tree like the stored ones, float32.

    averages: those of the state of this step, on the host or on the devices of all processes, which then all call this
    alike. images: seen by then, a checkpoint's meta["position"]. Snapshots later than the step are ignored. Raises
    UsageError where there is none, or one that is damaged or was removed.
    """
    seals = Seals(folder)
    paths = [path for found, path in sorted(_steps(folder, seals.names()).items()) if found < step]
    for path in paths:
        fault = seals.fault(path.name)
        require(
            fault in (None, "is not sealed"),  # as none was before there were seals
            f"{path} {fault}, of which the average of width {std:g} is put together: put it back from a copy, or set"
            f" sampling.average (or likelihood.average) to one that is stored, such as {next(iter(averages))}",
        )
    require(
        paths,
        f"{folder} has no snapshot from before step {step}, of which the average of width {std:g} is put together:"
        " train with ema.snapshot_every above 0, or set sampling.average to one that is stored",
    )
    names = sorted(name for name in averages if width(name) is not None)
    times = [*(_read(path, lambda arrays: float(arrays[IMAGES])) for path in paths), float(images)]
    rows = _coefficients(times, names, std)
    like = averages[names[0]]
    now = jax.tree.map(_on_host, {name: averages[name] for name in names})
    result = _combine(_arrays(now), names, rows[-1], like)
    for path, row in zip(paths, rows):
        part = _read(path, lambda arrays, row=row: _combine(arrays, names, row, like))
        result = {key: leaf + part[key] for key, leaf in result.items()}
    return jax.tree.unflatten(jax.tree.structure(like), [result[key].astype(np.float32) for key in _flat(like)])


def _on_host(x: Any) -> np.ndarray:
    """An array, whole, as numpy's; one that lies over several processes is collected from them."""
    return collect(x) if isinstance(x, jax.Array) and not x.is_fully_addressable else np.asarray(x)


def _coefficients(times: list[float], names: list[str], std: float) -> np.ndarray:
    """Of every stored time and width [T, W], for the average of another width at the last time."""
    stds = np.array([width(name) for name in names], np.float64)
    found = coefficients(np.repeat(times, len(names)), np.tile(stds, len(times)), np.array(times[-1:]), np.array([std]))
    return found.reshape(len(times), len(names))


def _arrays(averages: dict[str, Any]) -> dict[str, Any]:
    """{"power_0.050/score/module/parameter": leaf} of the averages that have a width."""
    found = {name: _flat(tree) for name, tree in averages.items() if width(name) is not None}
    return {f"{name}/{key}": leaf for name, tree in found.items() for key, leaf in tree.items()}


def _combine(arrays: Any, names: list[str], row: np.ndarray, like: Any) -> dict[str, np.ndarray]:
    """One time's averages, each times its coefficient, summed in float64."""
    terms = lambda key: [x * np.asarray(_array(arrays, name, key), np.float64) for name, x in zip(names, row)]
    return {key: np.sum(terms(key), axis=0) for key in _flat(like)}


def _array(arrays: Any, name: str, key: str) -> Any:
    """The average's array of that key; in files of earlier versions modules have other names, or parts none."""
    earlier = "/".join(map(earlier_name, key.split("/")))
    keys = [f"{name}/{k}" for k in (key, earlier, key.partition("/")[2], earlier.partition("/")[2])]
    return arrays[next((k for k in keys if k in arrays), keys[0])]


def _flat(tree: Any) -> dict[str, Any]:
    """{"part/module/parameter": leaf}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _steps(folder: pathlib.Path, sealed: Sequence[str] = ()) -> dict[int, pathlib.Path]:
    """Snapshots by step: those that are there, and those that were."""
    found = [folder / name for name in sealed] + (list(folder.iterdir()) if folder.is_dir() else [])
    return {int(path.stem): path for path in found if re.fullmatch(r"\d{8,}\.npz", path.name)}


def _read(path: pathlib.Path, f: Any) -> Any:
    try:
        with path.open("rb") as opened, np.load(opened) as arrays:
            return f(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not a snapshot this program wrote ({error}): remove it") from None
