"""Other people's checkpoints into a run of ours, which then samples and trains on as if it had been trained here."""

import json
import math
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.adapters import diffusers, jax_msgpack, score_sde_torch, torch_pickle
from score_sde.adapters.foreign import Foreign, Tree, flat, printable
from score_sde.adapters.layout import Layout, replay
from score_sde.errors import CheckpointError, UsageError, require
from score_sde.experiment import Experiment
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.systems.score import PART
from score_sde.training.layout import wrapped
from score_sde.training.step import TrainState


class Imported(NamedTuple):
    """What was imported; `parameters` counts numbers. As a string, a sentence."""

    file: str
    source: str
    step: int
    parameters: int
    raw: bool
    moments: bool

    def __str__(self) -> str:
        kind = "averaged (EMA) and raw" if self.raw else "taken for the average (EMA)"
        text = f"{self.file}, {self.source} at step {self.step}: {self.parameters:,} parameters, {kind}"
        text += ", with Adam's moments" if self.moments else "; Adam starts afresh"
        return text if self.raw else f"{text}, and training from the average"


def import_checkpoint(experiment: Experiment, path: str | pathlib.Path, workdir: Workdir) -> Imported:
    """Write the checkpoint at `path` as one of ours into a new workdir, whose config is the experiment's.

    The learning rate and the average's rate are the config's, whatever the file says. The stream goes on at the
    position step * training.batch_size. config.json is written last: where it stands the import is whole. Raises
    UsageError, before anything is written, for a file that is damaged or of another architecture than the config, and
    for a workdir that holds a run, and CheckpointError where there is no room.
    """
    workdir.check_new()
    file = newest(path)
    foreign = _read(experiment, file)
    config, step = experiment.config, foreign.step
    summary = Imported(
        file.name,
        foreign.source,
        step,
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(foreign.ema)),
        raw=foreign.params is not None,
        moments=foreign.mu is not None,
    )
    meta = {"step": step, "position": step * config.training.batch_size, "pending": []}
    state = _state(experiment, foreign)
    with workdir.lock():
        workdir.check_new()  # again: another process may have written it until now
        with _writing(workdir):
            workdir.importing.touch()
            shutil.rmtree(workdir.checkpoints, ignore_errors=True)
            with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
                checkpoints.save(step, state, meta)
            workdir.claim(config, **experiment.notes(), imported=summary._asdict())
            workdir.importing.unlink()
    return summary


@contextmanager
def _writing(workdir: Workdir) -> Iterator[None]:
    """Turns what makes Orbax raise, of many types, into a UsageError, but for a disk that is full."""
    try:
        yield
    except (OSError, CheckpointError):
        raise
    except Exception as error:
        raise UsageError(
            f"--workdir {workdir.path} cannot be written ({type(error).__name__}: {printable(str(error))}):"
            " free some space, remove the directory and import again"
        ) from None


def read(experiment: Experiment, path: str | pathlib.Path) -> Foreign:
    """What the checkpoint at `path` holds, of whatever kind, under the names of the experiment's network.

    A directory is diffusers' or one of official checkpoints, of which the highest number is taken. Raises UsageError
    for a path that is missing, damaged, of no known kind, or of another architecture.
    """
    return _read(experiment, newest(path))


def _read(experiment: Experiment, file: pathlib.Path) -> Foreign:
    layout, abstract = replay(lambda: experiment.abstract_state().params[PART])
    foreign = _reader(file)(file, experiment.score_system.network, layout)
    for name, tree in foreign._asdict().items():
        if isinstance(tree, dict):
            _check(file, name, tree, abstract)
    return foreign


def newest(path: str | pathlib.Path) -> pathlib.Path:
    """The official checkpoint of the highest number in a directory of them or a run; any other path as it is."""
    try:
        return _newest(pathlib.Path(path).expanduser())
    except (OSError, RuntimeError) as error:  # RuntimeError: a home directory that is not known
        raise _unreadable(path, error) from None


def _unreadable(path: str | pathlib.Path, error: Exception) -> UsageError:
    return UsageError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): choose another one")


def _newest(path: pathlib.Path) -> pathlib.Path:
    require(path.exists(), f"{path} does not exist: name a checkpoint file, a directory of them, or a diffusers model")
    inner = path / "checkpoints"
    require(
        not (inner.is_dir() and (path / "config.json").exists()),
        f"{path} is a run of this program already: name it as --workdir of --mode sample or train",
    )
    if not path.is_dir() or (path / "config.json").exists() or (path / "unet").is_dir():
        return path
    path = inner if inner.is_dir() else path
    found = {int(m[1]): p for p in path.iterdir() if (m := re.fullmatch(r"checkpoint_(\d+)(\.pth)?", p.name))}
    require(
        found,
        f"{path} has neither checkpoint_<number> in it, nor config.json, nor unet/config.json: name a checkpoint file,"
        " a directory of them, or a diffusers model",
    )
    return found[max(found)]


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path, Any, Layout], Foreign]:
    """What reads this path; told by how the file begins, not by its name."""
    if path.is_dir():
        return diffusers.read
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise _unreadable(path, error) from None
    require(start, f"{path} is empty: copy or download it again")
    if start[8:9] == b"{" and start[5:8] == bytes(3):  # safetensors: the length of a JSON object, and the object
        return diffusers.read
    if start.startswith((torch_pickle.ZIP, torch_pickle.LEGACY[:4])):
        return _read_torch
    # A map of msgpack: up to 15 entries, or a 16- or 32-bit number of them.
    require(
        start[0] & 0xF0 == 0x80 or start[0] in (0xDE, 0xDF),
        f"{path} is no checkpoint of a known kind, or damaged (it begins with {json.dumps(start.decode('latin1'))}):"
        " name one of the official JAX or PyTorch code, or a diffusers model",
    )
    return lambda path, network, layout: jax_msgpack.read(path)


def _read_torch(path: pathlib.Path, network: Any, layout: Layout) -> Foreign:
    """Official checkpoints and diffusers' .bin files are both torch.save's."""
    saved = torch_pickle.load(path)
    if score_sde_torch.is_model(saved):
        return score_sde_torch.read(path, saved, layout)
    require(
        path.with_name("config.json").is_file(),
        f"{path} is neither a checkpoint of the official PyTorch code, which has 'model' or parameters named"
        " 'all_modules.', nor a diffusers model, which has config.json beside it: name one of these",
    )
    return diffusers.read(path, network, layout, saved)


def _check(path: pathlib.Path, what: str, tree: Tree, expected: Tree) -> None:
    """UsageError naming the first parameter that is missing, of another shape, unexpected, or not finite."""
    there, here = flat(tree), flat(expected)
    differences = [
        f"{name} is missing there and has shape {here[name].shape} here"
        if name not in there
        else f"{name} has shape {there[name].shape} there and {here[name].shape} here"
        for name in here
        if name not in there or there[name].shape != here[name].shape
    ]
    unknown = there.keys() - here.keys()
    differences += [f"{printable(name)}, of shape {there[name].shape} there, is unknown here" for name in unknown]
    require(
        not differences,
        f"{path} is of another architecture than the config: {min(differences, default='')}"
        f" ({len(differences)} of its {what} differ): choose the config that belongs to it, or give network.* and"
        " data.num_channels its values",
    )
    for name, leaf in there.items():
        require(
            np.isfinite(leaf).all(), f"{path} holds {what} {name} that are not finite: it is damaged; take another one"
        )


def _state(experiment: Experiment, foreign: Foreign) -> TrainState:
    """Our training state; where the file has no raw parameters or moments, the average and zeros."""
    params = foreign.ema if foreign.params is None else foreign.params
    mu, nu = (jax.tree.map(np.zeros_like, params) if m is None else m for m in (foreign.mu, foreign.nu))
    count, step = np.asarray(foreign.adam_updates, np.int32), np.asarray(foreign.step, np.int32)
    optimizer = experiment.optimizers[PART].state_from_moments(params, mu, nu, count)
    averages = dict.fromkeys(experiment.averages, foreign.ema)  # files have one average: each of ours goes on from it
    return wrapped(TrainState(step, params, averages, optimizer), PART)  # pyright: ignore[reportArgumentType]
