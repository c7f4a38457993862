"""Weights of other runs, restored and never written; a part (teacher, guide, autoencoder) is kept by its checksum."""

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.config import Config, default
from score_sde.config.validation import SAMPLING
from score_sde.data.spec import Spec
from score_sde.devices.arrays import collect
from score_sde.errors import UsageError, require
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.systems.base import Params
from score_sde.training.layout import with_earlier_names


class Reference(NamedTuple):
    """<run>[@step][:average]: a run's directory, None for its newest step, "" for its main average."""

    run: str
    step: int | None
    average: str


class Record(NamedTuple):
    """Where weights came from, and the SHA-256 of their arrays; of an autoencoder, its latents' standard deviation."""

    run: str
    step: int
    average: str
    checksum: str
    scale: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What there is of it by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Frozen(NamedTuple):
    """A part of another run: where from, that run's experiment, and its parameters {its part: tree}, on the host.

    Where nothing is trained, which is what a student's samples need of its teacher, only where from.
    """

    record: Record
    experiment: Any = None
    params: Params = {}  # noqa: RUF012


def parse(field: str, text: str) -> Reference:
    """The reference that the field names; UsageError for a text that is none."""
    found = re.fullmatch(r"(?P<run>.+?)(@(?P<step>\d+))?(:(?P<average>[\w.]+))?", text)
    if found is None:
        raise UsageError(f"{field}={text!r} is not understood: write <run>[@step][:average], such as runs/digits")
    run, step, average = found["run"], found["step"], found["average"] or ""
    if step and Workdir(f"{run}@{step}").config.is_file():
        require(
            not Workdir(run).config.is_file(),
            f"{field}={text!r} may be step {step} of {run} or the run {run}@{step}: write {run}@{step}@<step> for the"
            " latter, or give it another name",
        )
        return Reference(f"{run}@{step}", None, average)
    return Reference(run, int(step) if step else None, average)


Build = Callable[..., Any]
"""(config, record of a run, training=False) -> its Experiment: experiment.build."""


def restored(
    field: str, text: str, spec: Spec, centered: bool, recorded: Mapping[str, Any] | None, build: Build
) -> Frozen:
    """What the field's text names; where this run has a record of it, just that one.

    Raises UsageError where its run is missing, has data of another shape or kind, or is not what it was.
    """
    reference = parse(field, text)
    experiment = experiment_of(field, reference.run, build)
    other = experiment.spec
    require(
        (other.shape, other.kind) == (spec.shape, spec.kind),
        f"{field}={text}: its data are {other.kind} of shape {other.shape}, and this run's {spec.kind} of shape"
        f" {spec.shape}: name a run on the same data",
    )
    require(
        (other.mean, other.std, experiment.config.data.centered) == (spec.mean, spec.std, centered),
        f"{field}={text}: its data are brought to another range (data.centered, data.mean or data.std): name a"
        " run with the same",
    )
    if reference.step is None and recorded is not None:
        reference = reference._replace(step=recorded["step"])
    record, params = weights(experiment, reference)
    check_unchanged(f"{field}={text}", record, recorded, params)
    return Frozen(record, experiment, params)


def check_unchanged(what: str, record: Record, recorded: Mapping[str, Any] | None, params: Params) -> None:
    """UsageError where weights are not those that a run began with, perhaps when they had earlier names."""
    require(
        recorded is None or recorded["checksum"] in (record.checksum, checksum(with_earlier_names(params))),
        f"{what} has changed since this run began, with step {(recorded or {}).get('step')} of"
        f" {(recorded or {}).get('run')}: put back what it was, or train in another --workdir",
    )


def weights(experiment: Any, reference: Reference) -> tuple[Record, Params]:
    """What a reference names of that run's experiment, on the host; UsageError where it is not there."""
    place = Workdir(reference.run)
    with closing(Checkpoints(place.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints, reference.step)
    params = collect(experiment.weights_of(state, reference.average, meta["position"], place.averages))
    average = reference.average or next(iter(experiment.averages))
    return Record(reference.run, meta["step"], average, checksum(params)), params


def experiment_of(field: str, run: str, build: Build) -> Any:
    """The experiment of the run that a field names, whose state lies whole on every device."""
    place = Workdir(run)
    record = place.record()
    if record is None and (place.path.parent.parent / "config.json").is_file():
        raise UsageError(f"{field}={run} is a part of a run: write {place.path.parent.parent}@{place.path.name}")
    require(
        record is not None and place.checkpoints.exists(),
        f"{field}={run} holds no trained run: train it first, or name the right directory",
    )
    assert record is not None
    config = config_of(record)
    config.parallel.update(default().parallel)
    # How it draws samples is its own affair, and by which other runs.
    config.guidance.update(default().guidance)
    config.frozen.update(dict.fromkeys(SAMPLING.get(config.system.name, ()), ""))
    config.sampling.update(label="", caption="")
    try:
        return build(config, record, training=False)
    except UsageError as error:
        raise UsageError(f"{field}={run} cannot be used: {error}") from None


def config_of(record: Mapping[str, Any]) -> Config:
    """The config in a run's record, fields that came later at their defaults."""
    config = default()
    for name, value in record["config"].items():
        if name not in config:  # of a later version: validation speaks of it
            raise UsageError(f"its config.json has a section {name!r} that this version does not know: update it")
        if isinstance(value, dict):
            config[name].update({n: tuple(v) if isinstance(v, list) else v for n, v in value.items()})
        else:
            config[name] = value
    return config


def checksum(params: Params) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        x = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {x.dtype} {x.shape}".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()
