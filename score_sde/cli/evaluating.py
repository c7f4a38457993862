"""--mode evaluate: samples measured against data by their features, each set once, and a table of the figures."""

import copy
import functools
import hashlib
import pathlib
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.cli.modes import built, samples_name, say, settings_of, warn
from score_sde.config import Config
from score_sde.data.raw import pictures_at
from score_sde.data.sources import Dataset
from score_sde.devices.distributed import together
from score_sde.errors import NotFinite, UsageError, require
from score_sde.evaluation.figures import TITLES, known, written
from score_sde.evaluation.statistics import FeatureSet, check_comparable, is_statistics, load
from score_sde.experiment import evaluating
from score_sde.experiment.diagnosis import remedies
from score_sde.experiment.evaluating import Pictured
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.feature_folder import REPORT, STATISTICS, FeatureFolder
from score_sde.experiment.features import Extractor, Pictures, extractor, pixels
from score_sde.experiment.generation import Generator
from score_sde.experiment.objects import SPLITS
from score_sde.experiment.resolving import agree_on_data, load_data
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir, read_json, versions, write_json
from score_sde.storage.writing import writing

MANY = 2000
"""Samples whose figures take long enough to be told of."""


class Row(NamedTuple):
    """Samples that are measured, and what report.json says of where they are from."""

    pictured: Pictured
    name: tuple[str, ...]
    sampler: dict[str, Any]


class Reference(NamedTuple):
    """What samples are measured against, None of other processes than the first, and what it is known by."""

    data: FeatureSet | None
    held_out: FeatureSet | None
    settings: dict[str, Any]


def evaluate(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Figures of samples of checkpoints, or of pictures at a path, against a split of the data or a file.

    Every set is measured part by part, and the same command goes on behind the last one. Returns the exit code. Raises
    Stopped, and NotFinite.
    """
    c, experiment = config.evaluation, None
    if not c.samples:
        experiment = built(config, workdir)
    measure = _extractor(config, experiment)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        rows = [_pictures(c.samples, measure)] if experiment is None else _of_run(experiment, workdir, checkpoints)
        reference = _reference(config, experiment, workdir, measure, overwrite)
        reports = [_measured(row, reference, measure, workdir, config, overwrite) for row in rows]
    say(table(reports))
    missing = sum(report["not_finite"] for report in reports)
    if missing:
        way = f"; {remedies(config.sampling)}" if experiment is not None else ""
        raise NotFinite(f"{missing} of the samples, or of their features, are not finite, and in no figure{way}")
    return 0


def _extractor(config: Config, experiment: Experiment | None) -> Extractor:
    """By the config; UsageError where samples of the run are nothing for it."""
    c = config.evaluation
    if experiment is not None and c.features == "pixels":
        return pixels(c.batch_size, experiment.kind.comparable)
    measure = extractor(c.features, c.preprocessing, c.weights, c.batch_size)
    if experiment is not None:
        dtype = np.uint8 if experiment.spec.kind == "bytes" else np.float32
        _check(measure, np.zeros((1, *experiment.shape), dtype), "the run")
    return measure


def _pictures(path: str, measure: Extractor) -> Row:
    pictures, finite = pictures_at(path)
    _check(measure, pictures[0:1], path)
    settings = read_json(pathlib.Path(path).expanduser() / "settings.json")
    sampler = {"samples": path, **{n: v for n, v in settings.items() if n in ("sampling", "step")}}
    name = pathlib.Path(path).expanduser().absolute().stem
    return Row(evaluating.found("samples", pictures, finite), (name,), sampler)


def _check(measure: Extractor, some: Pictures, name: str) -> None:
    """UsageError for pictures that cannot be measured; a warning of grey ones, which the network does not know."""
    measure.check(some)
    if measure.about["features"] == "inception" and np.shape(some)[-1] < 3:
        warn(f"{name}: grey pictures, whose channel is repeated: of a network of colours such figures say little")


def _of_run(experiment: Experiment, workdir: Workdir, checkpoints: Checkpoints) -> list[Row]:
    """Samples of every checkpoint and average that is asked for, of one compiled program."""
    c, sampling, rows = experiment.config.evaluation, experiment.config.sampling, list[Row]()
    generator = Generator(experiment)
    if choice := experiment.drawing.choice:
        say(choice, file=sys.stderr)
    for step in _steps(c.checkpoints, checkpoints):
        number = experiment.restore(checkpoints)[1]["step"] if step is None else step  # newest that is whole
        restore = functools.partial(experiment.restore, checkpoints, number)
        for average in c.averages or (sampling.average,):
            own = copy.deepcopy(sampling)
            own.average, own.num_samples = average, c.num_samples
            settings = {**settings_of(experiment, number), "sampling": own.to_dict()}
            params = functools.partial(_weights, experiment, restore, average, workdir)
            drawn = evaluating.drawn(generator, params, c.num_samples, sampling.batch_size, settings)
            facts = {name: own[name] for name in ("solver", "num_steps", "seed")}
            facts |= {"step": number, "average": average or next(iter(experiment.averages))}
            rows.append(Row(drawn, (samples_name(own), f"step{number}", str(c.num_samples)), facts))
    return rows


def _steps(asked: str, checkpoints: Checkpoints) -> list[int | None]:
    """Of `evaluation.checkpoints`, None for the newest; UsageError for a step that is not there."""
    there = checkpoints.steps()
    if asked == "all":
        return list(there)
    if not asked:
        return [None]
    try:
        steps = [int(step) for step in asked.replace(" ", "").split(",")]
    except ValueError:
        raise UsageError(f"evaluation.checkpoints={asked!r} must be all, or steps such as 1000,2000") from None
    missing = [step for step in steps if step not in there]
    require(not missing, f"evaluation.checkpoints={asked!r} asks for {missing}: there are {there}")
    return list(steps)


def _weights(experiment: Experiment, restore: Callable[[], Any], average: str, workdir: Workdir) -> Any:
    state, meta = restore()
    warn(experiment.early.using(int(state.step), average))
    return experiment.weights_of(state, average, meta["position"], workdir.averages)


def _reference(
    config: Config, experiment: Experiment | None, workdir: Workdir, measure: Extractor, overwrite: bool
) -> Reference:
    """The split of the data with what is held out, or the file, that samples are measured against."""
    c = config.evaluation
    if c.against not in SPLITS:
        return _of_file(c.against, workdir, measure, overwrite)
    data = experiment.data if experiment is not None else load_data(config)
    agree_on_data(lambda: data)
    sets: dict[str, FeatureSet | None] = {}
    settings: dict[str, Any] = {}
    for split in (c.against, *(["held_out"] if c.against == "train" and len(data.held_out) else [])):
        pictured = _split(split, config, data, measure)
        about = {"dataset": config.data.path or config.data.name, "split": split}
        sets[split] = _kept(pictured, measure, workdir, about, overwrite)
        settings[split] = pictured.settings
    return Reference(sets[c.against], sets.get("held_out") if c.against == "train" else None, settings)


def _split(split: str, config: Config, data: Dataset, measure: Extractor) -> Pictured:
    source, conditions = SPLITS[split](data)
    require(
        len(source) > 1,
        f"evaluation.against={split!r} names {len(source)} pictures of data.name={config.data.name!r}: set"
        " evaluation.against to another split or a file",
    )
    _check(measure, source[np.arange(1)], split)
    return evaluating.of_data(split, source, conditions, config.evaluation.num_data)


def _of_file(path: str, workdir: Workdir, measure: Extractor, overwrite: bool) -> Reference:
    place = pathlib.Path(path).expanduser()
    require(place.exists(), f"evaluation.against={path!r} is no file: name it, or one of {', '.join(SPLITS)}")
    if is_statistics(place):
        found, warning = load(place)
        check_comparable(measure.about, found.about, "evaluation", path)
        if warning:
            warn(warning)
        values = [hashlib.sha256(part.tobytes()).hexdigest() for part in found.moments[1:]]
        return Reference(found, None, {"statistics": values})
    pictures, finite = pictures_at(path)
    _check(measure, pictures[0:1], path)
    pictured = evaluating.found("data", pictures, finite)
    about = {"dataset": path, "split": ""}
    return Reference(_kept(pictured, measure, workdir, about, overwrite), None, pictured.settings)


def _kept(
    pictured: Pictured, measure: Extractor, workdir: Workdir, about: dict[str, str], overwrite: bool
) -> FeatureSet | None:
    """Features of a set of data, which stay for the next evaluation; None in other processes than the first."""
    settings = {"about": measure.about, **pictured.settings}
    place = evaluating.place(workdir.path, pictured.name, *_kind(measure), evaluating.digest(settings))
    folder = FeatureFolder(place, settings, (STATISTICS,))
    if not together(folder.is_done):
        with writing(place) as first:
            evaluating.measured(pictured, measure, folder, overwrite)

            def finish() -> None:
                found = evaluating.as_set(folder.gathered(), {**measure.about, **about})
                found.save(place / STATISTICS, keep_features=True)
                folder.finish()

            together(lambda: finish() if first else None)
    return load(place / STATISTICS)[0] if jax.process_index() == 0 else None


def _kind(measure: Extractor) -> tuple[str, ...]:
    return measure.about["features"], measure.about.get("preprocessing", "")


def _measured(
    row: Row, reference: Reference, measure: Extractor, workdir: Workdir, config: Config, overwrite: bool
) -> dict[str, Any]:
    """report.json of samples, read where it is there."""
    settings = {"about": measure.about, "against": reference.settings, **row.pictured.settings}
    place = evaluating.place(workdir.path, *row.name, *_kind(measure))
    folder = FeatureFolder(place, settings, (STATISTICS, REPORT))
    if not together(folder.is_done):
        with writing(place) as first:
            evaluating.measured(row.pictured, measure, folder, overwrite)

            def finish() -> None:
                rows = folder.gathered()
                samples = evaluating.as_set(rows, measure.about)
                require(samples.moments.n > 1, f"{place} has {samples.moments.n} finite samples: draw 2 or more")
                assert reference.data is not None
                if samples.moments.n > MANY:
                    say("computing the figures ...", file=sys.stderr)
                found = evaluating.report(rows, samples, reference.data, reference.held_out)
                samples.save(place / STATISTICS, config.evaluation.keep_features)
                write_json(place / REPORT, {**found, **row.sampler, "versions": versions()})
                folder.finish()

            together(lambda: finish() if first else None)
    found = together(lambda: read_json(place / REPORT))
    say(f"{place / REPORT}: {describe(found)}")
    return {**found, "name": place.name}


def describe(report: dict[str, Any]) -> str:
    """The figures of a report.json in a line, and its notes."""
    parts = [f"{TITLES[name]} {written(report, name)}" for name in known([report])]
    return "; ".join([f"{report['num_samples']:,} samples", *parts, *report["notes"]])


def table(reports: list[dict[str, Any]]) -> str:
    """The figures of several reports, a line each, under their names."""
    names = known(reports)
    lines = [["samples", "n", *(TITLES[name] for name in names)]]
    lines += [[r["name"], f"{r['num_samples']:,}", *(written(r, name) for name in names)] for r in reports]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
