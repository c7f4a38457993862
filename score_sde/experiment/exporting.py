"""A run's parameters as files of other programs: what importing.py reads, written."""

import json
import math
import pathlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.adapters import diffusers, jax_msgpack, scheduler, score_sde_torch, weights
from score_sde.adapters.diffusers_config import reasons
from score_sde.adapters.foreign import Tree, printable
from score_sde.adapters.jax_tree import official
from score_sde.adapters.layout import Layout, replay
from score_sde.config.averages import RAW, canonical
from score_sde.devices.arrays import collect
from score_sde.errors import CheckpointError, UsageError, require
from score_sde.experiment.experiment import Experiment
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.rng import root_key
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.files import whole, whole_folder
from score_sde.storage.workdir import Workdir
from score_sde.systems.score import PART
from score_sde.training.step import TrainState


class Exported(NamedTuple):
    """What was written where; `parameters` counts numbers. As a string, a sentence."""

    path: pathlib.Path
    kind: str
    step: int
    average: str
    parameters: int
    note: str = ""

    def __str__(self) -> str:
        what = "raw" if self.average == RAW else f"the average {self.average!r}"
        return f"{self.path}: {self.kind} at step {self.step}, {self.parameters:,} parameters, {what}{self.note}"


class _Job(NamedTuple):
    """What an export is made of: the parameters asked for, and the whole state they come from."""

    experiment: Experiment
    state: TrainState
    params: Tree
    layout: Layout

    @property
    def network(self) -> Any:
        return self.experiment.score_system.network

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the network is shown, [H, W, C]."""
        return self.experiment.score_system.image_shape


class Format(NamedTuple):
    """One kind of file: its name below a run's export/<format>-<step>, what it is, why a run has none, the writer.

    refuse: (experiment) -> reasons. note: (experiment) -> what is said beside. A writer is given a path that does not
    exist yet, or an empty directory where `file` is "".
    """

    file: str
    kind: str
    refuse: Callable[[Experiment], Iterator[str]]
    note: Callable[[Experiment], str]
    write: Callable[[_Job, pathlib.Path], None]


def export_checkpoint(
    experiment: Experiment,
    workdir: Workdir,
    format: str,
    path: str | pathlib.Path = "",
    overwrite: bool = False,
) -> Exported:
    """Write the newest checkpoint's parameters in another program's format: one of FORMATS.

    `sampling.average` names the average, raw or a width. path: a file, or of diffusers a directory; empty for
    export/<format>-<step>[-<average>] of the run. Importing it gives the same parameters to the bit. Raises UsageError
    for a network that the format does not have, and for what is there already unless `overwrite`; CheckpointError
    where it cannot be written.
    """
    require(format in FORMATS, f"--format={format} is unknown: choose from {', '.join(FORMATS)}")
    row, asked, given = FORMATS[format], experiment.config.sampling.average, pathlib.Path(path).expanduser()
    found = list(row.refuse(experiment))
    others = [f for f in FORMATS if f != format and not list(FORMATS[f].refuse(experiment))]
    require(
        not found,
        f"--format={format} has no network or process like this run's: {'; '.join(found)}. Export it with"
        f" --format={' or '.join(others)}",
    )
    if path:
        _check_free(given, row, overwrite)  # before the checkpoint is read
    job, step, average = _job(experiment, workdir)
    folder = workdir.path / "export" / f"{format}-{step}{f'-{average}' if asked else ''}"
    target = given if path else folder / row.file.format(step=step)
    _check_free(target, row, overwrite)
    with _place(target, row) as unfinished:
        row.write(job, unfinished)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(job.params))
    return Exported(target, row.kind, step, average, parameters, row.note(experiment))


def _job(experiment: Experiment, workdir: Workdir) -> tuple[_Job, int, str]:
    """The newest checkpoint and its parameters on the host, its step, and the name of the average."""
    name = experiment.config.sampling.average
    layout, _ = replay(lambda: experiment.abstract_params()[PART])
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    params = experiment.weights_of(state, name, meta["position"], workdir.averages)
    average = canonical(name) or next(iter(experiment.averages))
    return _Job(experiment, state, collect(params[PART]), layout), meta["step"], average


def _check_free(target: pathlib.Path, row: Format, overwrite: bool) -> None:
    """UsageError for a place that holds anything, unless it may be replaced and is what an export writes."""
    require(
        overwrite or not target.exists(), f"{target} exists already: add --overwrite, or name another place by --output"
    )
    if row.file:
        require(not target.is_dir(), f"{target} is a directory: name a file by --output, such as {target / 'model'}")
        return
    require(not target.is_file(), f"{target} is a file, and diffusers' models are directories: name one by --output")
    strange = sorted(p.name for p in target.iterdir() if p.name not in PIPELINE) if target.exists() else []
    require(
        not strange,
        f"{target} holds {', '.join(map(printable, strange[:3]))}, which no export wrote: name another directory by"
        " --output",
    )


@contextmanager
def _place(target: pathlib.Path, row: Format) -> Iterator[pathlib.Path]:
    """Where to write what then stands at the target, whole or not at all."""
    try:
        with (whole if row.file else whole_folder)(target) as unfinished:
            yield unfinished
    except UsageError:
        raise
    except Exception as error:  # safetensors has errors of its own
        reason = getattr(error, "strerror", None) or printable(f"{type(error).__name__}: {error}")
        raise CheckpointError(
            f"{target} cannot be written ({reason}): free some space, or name another place by --output"
        ) from error


def _write_safetensors(job: _Job, path: pathlib.Path) -> None:
    c = job.experiment.config.sde
    sigmas = score_sde_torch.noise_levels(c.sigma_min, c.sigma_max, c.num_scales)
    weights.save(path, score_sde_torch.to_state_dict(job.params, job.layout, sigmas))


def _write_diffusers(job: _Job, folder: pathlib.Path) -> None:
    settings = scheduler.settings(job.experiment.config)
    (folder / "unet").mkdir()
    diffusers.to_folder(folder / "unet", job.params, job.network, job.layout, job.shape)
    (folder / "scheduler").mkdir()
    kind = settings["_class_name"]
    _write_json(folder / "scheduler" / scheduler.FILE, settings)
    if kind in scheduler.PIPELINES:
        parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", kind]}
        _write_json(folder / "model_index.json", {"_class_name": scheduler.PIPELINES[kind], **parts})


def _write_jax(job: _Job, path: pathlib.Path) -> None:
    config, state = job.experiment.config, job.state
    moments = job.experiment.optimizers[PART].moments(state.optimizer[PART])
    mu, nu, updates = collect(moments)
    rng = jax.random.key_data(root_key(config.seed))
    others = {"lr": config.optimizer.learning_rate, "ema_rate": config.ema.decay, "rng": np.asarray(rng)}
    params = collect(state.params[PART])
    jax_msgpack.write(path, official(int(state.step), job.params, params, mu, nu, int(updates), **others))


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps({**value, "_diffusers_version": diffusers.VERSION}, indent=2, sort_keys=True) + "\n")


def _no_u_net(experiment: Experiment) -> Iterator[str]:
    if not isinstance(experiment.score_system.network, NCSNpp):
        yield f"network.name={experiment.config.network.name!r} (there: the U-Nets ncsnpp and ddpm)"


def _not_diffusers(experiment: Experiment) -> Iterator[str]:
    yield from reasons(experiment.score_system.network, experiment.score_system.image_shape)
    yield from scheduler.reasons(experiment.config)


def _not_official(experiment: Experiment) -> str:
    """What the official code could not build, although the names go on as it has them."""
    n = experiment.score_system.network
    if not isinstance(n, NCSNpp):
        return ""
    more = {
        "network.up_attention": n.up_attention != "level",
        "data.augmentation": n.augment_dim > 0,
        "data.condition": n.label_rows > 0 or n.text is not None,
        "parametrization.learned_variance": n.out_channels is not None,
    }
    found = [field for field, differs in more.items() if differs]
    return f"; the official code itself has no network with this {' and '.join(found)}" if found else ""


PIPELINE = ("unet", "scheduler", "model_index.json")
FORMATS = {
    "safetensors": Format(
        "model.safetensors",
        "the official PyTorch code's state dict (safetensors)",
        _no_u_net,
        _not_official,
        _write_safetensors,
    ),
    "diffusers": Format("", "a diffusers pipeline of a UNet2DModel", _not_diffusers, lambda _: "", _write_diffusers),
    "jax": Format(
        "checkpoint_{step}",
        "the official JAX code's training state (msgpack)",
        lambda _: iter(()),
        _not_official,
        _write_jax,
    ),
}
"""Every format by its word on the command line."""
