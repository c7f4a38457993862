"""--mode evaluate: samples measured against data by their features, each set once, and a table of the figures."""

import copy
import functools
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from score_sde.cli.modes import aligned, built, say, warn
from score_sde.cli.naming import samples_name, settings_of
from score_sde.config import Config
from score_sde.data.kinds import Real
from score_sde.data.raw import RawPictures, Stored
from score_sde.data.sources import Dataset
from score_sde.data.spec import statistics
from score_sde.devices.distributed import together
from score_sde.errors import NotFinite, require
from score_sde.evaluation.figures import TITLES, known, written
from score_sde.experiment import evaluating
from score_sde.experiment.diagnosis import remedies
from score_sde.experiment.evaluating import Pictured
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.feature_folder import REPORT, STATISTICS, FeatureFolder
from score_sde.experiment.features import Extractor, Pixels, extractor
from score_sde.experiment.generation import Generator
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.experiment.objects import SPLITS
from score_sde.experiment.reference import Reference, Wanted, check, pictures, reference
from score_sde.experiment.resolving import agree_on_data, load_data
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir, read_json, versions, write_json
from score_sde.storage.writing import writing


class Row(NamedTuple):
    """Samples that are measured, and what report.json says of where they are from."""

    pictured: Pictured
    name: tuple[str, ...]
    sampler: dict[str, Any]


def evaluate(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Figures of samples of checkpoints, or of pictures at a path, against a split of the data or a file.

    Every set is measured part by part, and the same command goes on behind the last one. Returns the exit code. Raises
    Stopped, and NotFinite.
    """
    c, experiment = config.evaluation, None
    require(
        not c.samples or not (c.checkpoints or c.averages),
        f"evaluation.samples={c.samples!r} are of no run: leave evaluation.checkpoints and evaluation.averages empty",
    )
    if not c.samples:
        experiment = built(config, workdir)
    data = _data(config, experiment)
    measure, given = _extractor(config, experiment, data)
    wanted = Wanted(measure, 0, workdir, overwrite, warn)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        rows = [_pictures(c.samples, *given)] if given else _of_run(_sure(experiment), workdir, checkpoints)
        shapes, dtype = _seen(experiment, given)
        check(wanted, shapes, dtype, c.samples or "the run")
        against = reference(config, data, wanted._replace(dimensions=measure.dimensions(min(shapes))))
        reports = [_measured(row, against, measure, workdir, config, overwrite) for row in rows]
    say(table(reports))
    missing = sum(report["not_finite"] for report in reports)
    if missing:
        way = f"; {remedies(config.sampling)}" if experiment is not None else ""
        raise NotFinite(f"{missing} of the samples, or of their features, are not finite, and in no figure{way}")
    return 0


def _data(config: Config, experiment: Experiment | None) -> Dataset | None:
    """Where samples are compared with a split of them."""
    if config.evaluation.against not in SPLITS:
        return None
    data = experiment.data if experiment is not None else load_data(config)
    agree_on_data(lambda: data)
    return data


Given = tuple[RawPictures | Stored, np.ndarray]
"""Pictures that are there already, and which of them are finite."""


def _extractor(config: Config, experiment: Experiment | None, data: Dataset | None) -> tuple[Extractor, Given | None]:
    """By the config, and the pictures of `evaluation.samples`; real numbers are standardised as their data are."""
    c = config.evaluation
    given = pictures(c.samples, "samples", warn) if experiment is None else None
    real = given[0][0:1][0].dtype != np.uint8 if given else _sure(experiment).spec.kind != "bytes"
    if c.features != "pixels" or not real or data is None:
        return extractor(c.features, c.preprocessing, c.weights, c.batch_size, real), given
    if experiment is not None:
        moments = experiment.spec.mean, experiment.spec.std
    else:
        moments = statistics(data, tuple(config.data.mean), tuple(config.data.std))[:2]
    told = hashlib.sha256(json.dumps(moments).encode()).hexdigest()
    return Pixels(True, c.batch_size, Real(False, *moments).comparable, told), given


def _sure(experiment: Experiment | None) -> Experiment:
    assert experiment is not None
    return experiment


def _seen(experiment: Experiment | None, given: Given | None) -> tuple[set[tuple[int, ...]], np.dtype]:
    """The shapes of single samples, and their dtype."""
    if given:
        return given[0].shapes, given[0][0:1][0].dtype
    run = _sure(experiment)
    return {tuple(run.shape)}, np.dtype(np.uint8 if run.spec.kind == "bytes" else np.float32)


def _pictures(path: str, found: RawPictures | Stored, finite: np.ndarray) -> Row:
    place = pathlib.Path(path).expanduser()
    settings = read_json(place / "settings.json")
    sampler = {"samples": path, **{n: v for n, v in settings.items() if n in ("sampling", "guidance", "step")}}
    name = place.absolute().name if place.is_dir() else place.stem
    return Row(evaluating.found("samples", found, finite), (name,), sampler)


def _of_run(experiment: Experiment, workdir: Workdir, checkpoints: Checkpoints) -> list[Row]:
    """Samples of every checkpoint and average that is asked for, of one compiled program."""
    c, sampling, rows = experiment.config.evaluation, experiment.config.sampling, list[Row]()
    generator = Generator(experiment, KeptGrids(workdir.grids))
    if choice := experiment.drawing.choice:
        say(choice, file=sys.stderr)
    for step in _steps(c.checkpoints, checkpoints):
        number = experiment.restore(checkpoints)[1]["step"] if step is None else step  # newest that is whole
        restore = functools.partial(experiment.restore, checkpoints, number)
        for average in dict.fromkeys(c.averages or (sampling.average,)):
            own = copy.deepcopy(sampling)
            own.average, own.num_samples = average, c.num_samples
            settings = {**settings_of(experiment, number), "sampling": own.to_dict()}
            params = functools.partial(_weights, experiment, restore, average, workdir)
            drawn = evaluating.drawn(generator, params, c.num_samples, sampling.batch_size, settings)
            facts = {name: own[name] for name in ("solver", "num_steps", "seed")}
            facts |= {"step": number, "average": average or next(iter(experiment.averages))}
            name = samples_name(own, experiment.config.guidance, experiment.config.frozen.guide)
            rows.append(Row(drawn, (name, f"step{number}", str(c.num_samples)), facts))
    return rows


def _steps(asked: str, checkpoints: Checkpoints) -> list[int | None]:
    """Of `evaluation.checkpoints`, None for the newest; UsageError for a step that is not there."""
    there = checkpoints.steps()
    if asked == "all":
        return list(there)
    if not asked:
        return [None]
    words = asked.replace(" ", "").split(",")
    decimal = all(word.isdecimal() for word in words)
    require(decimal, f"evaluation.checkpoints={asked!r} must be all, or steps such as 1000,2000")
    steps = list(dict.fromkeys(map(int, words)))
    missing = [step for step in steps if step not in there]
    require(not missing, f"evaluation.checkpoints={asked!r} asks for {missing}: there are {there}")
    return [*steps]


def _weights(experiment: Experiment, restore: Callable[[], Any], average: str, workdir: Workdir) -> Any:
    state, meta = restore()
    warn(experiment.early.using(int(state.step), average))
    return experiment.weights_of(state, average, meta["position"], workdir.averages)


def _measured(
    row: Row, reference: Reference, measure: Extractor, workdir: Workdir, config: Config, overwrite: bool
) -> dict[str, Any]:
    """report.json of samples, read where it is there."""
    settings = {"about": measure.about, "against": reference.settings, **row.pictured.settings}
    place = evaluating.place(workdir.path, settings, *row.name, *evaluating.kind(measure))
    plain, kept = (FeatureFolder(place, {**settings, **f}, (STATISTICS, REPORT)) for f in ({}, {"keep_features": True}))
    folder = kept if config.evaluation.keep_features or together(kept.is_done) else plain
    if not together(folder.is_done):
        with writing(place) as first:
            evaluating.measured(row.pictured, measure, folder, overwrite or (folder is kept and plain.is_done()))

            def finish() -> None:
                rows = folder.gathered()
                samples = evaluating.as_set(rows, measure.about)
                if samples.moments.n < 2:
                    bad = len(rows["finite"]) - samples.moments.n
                    raise NotFinite(f"{bad} of {len(rows['finite'])} samples, or of their features, are not finite")
                assert reference.data is not None
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
    return aligned(lines)
