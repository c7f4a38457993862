"""Other people's checkpoints into a run of ours, which then samples and trains on as if it had been trained here."""

import math
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.adapters import adm, asked, diffusers, edm, edm_pickle, scheduler
from score_sde.adapters.files import newest, reader
from score_sde.adapters.foreign import Foreign, Tree, flat, is_real, printable
from score_sde.adapters.layout import replay
from score_sde.adapters.parts import STEP
from score_sde.errors import CheckpointError, UsageError, require
from score_sde.experiment import Experiment
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.systems import Classifier
from score_sde.systems.score import PART
from score_sde.training.layout import wrapped
from score_sde.training.step import TrainState


class Imported(NamedTuple):
    """What was imported; `parameters` counts numbers. As a string, a sentence.

    taken: every part of the checkpoint that was used, and what for. unused: those that were not. cast: other dtypes
    than float32 that it had.
    """

    file: str
    source: str
    step: int
    parameters: int
    raw: bool
    moments: bool
    taken: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    cast: tuple[str, ...] = ()

    def __str__(self) -> str:
        kind = "averaged (EMA) and raw" if self.raw else "taken for the average (EMA)"
        text = f"{self.file}, {self.source} at step {self.step}: {self.parameters:,} parameters, {kind}"
        text += ", with Adam's moments" if self.moments else "; Adam starts afresh"
        text += "" if self.raw else ", and training from the average"
        trees = [f"{name} as {role}" for name, role in self.taken if role != STEP]
        text += f"; taken: {', '.join(trees)}" if trees else ""
        text += f"; not used: {_some(self.unused)}" if self.unused else ""
        return text + (f"; {', '.join(self.cast)} became float32" if self.cast else "")


def _some(names: tuple[str, ...], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more


def import_checkpoint(experiment: Experiment, path: str | pathlib.Path, workdir: Workdir) -> Imported:
    """Write the checkpoint at `path` as one of ours into a new workdir, whose config is the experiment's.

    The learning rate and the average's rate are the config's, whatever the file says. The stream goes on at the
    position step * training.batch_size. config.json is written last: where it stands the import is whole. Raises
    UsageError, before anything is written, for a file that is damaged or of another architecture than the config, and
    for a workdir that holds a run; CheckpointError where the workdir cannot be written.
    """
    workdir.check_new()
    file = newest(path)
    foreign, cast = _read(experiment, file)
    config, step = experiment.config, foreign.step
    summary = Imported(
        file.name,
        foreign.source,
        step,
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(foreign.ema)),
        raw=foreign.params is not None,
        moments=foreign.mu is not None,
        taken=foreign.taken,
        unused=foreign.unused,
        cast=cast,
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
    """What the checkpoint at `path` holds, of whatever kind, in float32 under the names of the experiment's network.

    A directory is diffusers', Orbax's, or one of numbered checkpoints, of which the highest is taken. Raises UsageError
    for a path that is missing, damaged, of no known kind, of another architecture, or trained in another way.
    """
    return _read(experiment, newest(path))[0]


def _read(experiment: Experiment, file: pathlib.Path) -> tuple[Foreign, tuple[str, ...]]:
    """What a checkpoint holds, and the dtypes that were cast to float32."""
    pickled = edm_pickle.load(file) if edm_pickle.is_one(file) else None
    if pickled is not None:
        wanted = asked.of_pickle(file, pickled, experiment.config)
        asked.check(file, wanted, experiment.config, f"{pickled.kind} of {pickled.inner}")
    part = _part(experiment)
    layout, abstract = replay(lambda: experiment.abstract_params()[part])
    network: Any = experiment.system.network  # pyright: ignore[reportAttributeAccessIssue]
    if pickled is not None:
        foreign = edm.read_pickle(file, pickled, network, layout)
    else:
        foreign = reader(file)(file, network, layout)
    require(
        part == PART or foreign.source == adm.KIND,
        f"{file} is {foreign.source}, and of classifiers ADM's alone are imported: name one of its .pt files",
    )
    if foreign.source == adm.KIND:
        shape = experiment.system.image_shape  # pyright: ignore[reportAttributeAccessIssue]
        wanted = adm.asked(file, foreign.ema, experiment.config, shape)
        asked.check(file, wanted, experiment.config, adm.KIND)
    trees = {name: tree for name, tree in foreign._asdict().items() if isinstance(tree, dict)}
    for name, tree in trees.items():
        _check(file, name, tree, abstract)
    if foreign.source == edm.KIND:
        edm.check(file, experiment.config)
    if foreign.source == diffusers.KIND and (found := diffusers.scheduler_of(file)) is not None:
        scheduler.check(found, experiment.config)
    dtypes = {str(leaf.dtype) for tree in trees.values() for leaf in flat(tree).values()} - {"float32"}
    cast = {name: jax.tree.map(lambda a: a.astype(np.float32, copy=False), tree) for name, tree in trees.items()}
    return foreign._replace(**cast), tuple(sorted(dtypes))


def _part(experiment: Experiment) -> str:
    """What a file has the parameters of: the score, or the classifier; UsageError for another system."""
    if isinstance(experiment.system, Classifier):
        return experiment.system.parts[0]
    assert experiment.score_system  # which raises for another
    return PART


def _check(path: pathlib.Path, what: str, tree: Tree, expected: Tree) -> None:
    """UsageError naming the first parameter that is unknown, missing, of another shape or dtype, or not finite."""
    there, here = flat(tree), flat(expected)
    unknown = [
        f"{printable(name)}, of shape {np.shape(there[name])} there, is unknown here"
        for name in sorted(there.keys() - here.keys())
    ]
    differences = [
        f"{name} is missing there and has shape {here[name].shape} here"
        if name not in there
        else f"{name} has shape {there[name].shape} there and {here[name].shape} here"
        for name in here
        if name not in there or there[name].shape != here[name].shape
    ]
    first = [*unknown, *sorted(differences)]
    require(
        not first,
        f"{path} is of another architecture than the config: {(first or [''])[0]} ({len(first)} of its {what} differ):"
        " choose the config that belongs to it, or give network.* and data.num_channels its values",
    )
    for name, leaf in there.items():
        require(
            is_real(leaf.dtype),
            f"{path} holds {what} {name} of dtype {leaf.dtype}, and the config's are float32: parameters are"
            " floating-point numbers, so save them as float32 in the program that made the file",
        )
        require(
            np.isfinite(leaf).all(), f"{path} holds {what} {name} that are not finite: it is damaged; take another one"
        )


def _state(experiment: Experiment, foreign: Foreign) -> TrainState:
    """Our training state; where the file has no raw parameters or moments, the average and zeros."""
    params = foreign.ema if foreign.params is None else foreign.params
    mu, nu = (jax.tree.map(np.zeros_like, params) if m is None else m for m in (foreign.mu, foreign.nu))
    count, step = np.asarray(foreign.adam_updates, np.int32), np.asarray(foreign.step, np.int32)
    part = _part(experiment)
    optimizer = experiment.optimizers[part].state_from_moments(params, mu, nu, count)
    averages = dict.fromkeys(experiment.averages, foreign.ema)  # files have one average: each of ours goes on from it
    return wrapped(TrainState(step, params, averages, optimizer), part)  # pyright: ignore[reportArgumentType]
