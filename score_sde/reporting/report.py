"""A trained run as one page: <workdir>/report/index.html, its figures beside it as PNGs, its numbers as JSON."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from score_sde.config import SCHEMA, flatten
from score_sde.config.averages import canonical
from score_sde.data.sources import Source, chosen, some
from score_sde.errors import NotFinite, UsageError, require
from score_sde.experiment import Experiment
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.experiment.resolving import agree_on_data
from score_sde.progress import Progress
from score_sde.reporting import measure, rows, sections
from score_sde.reporting.best import best
from score_sde.reporting.evaluations import evaluation
from score_sde.reporting.measure import Yardstick
from score_sde.reporting.page import Section, Table, page
from score_sde.reporting.rate_distortion import rate_distortion
from score_sde.reporting.records import evaluations, likelihoods, log
from score_sde.reporting.spectra import spectra
from score_sde.reporting.students import Student, students
from score_sde.storage.files import whole
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import Workdir, versions, write_json

MOST_SAMPLES = 500
"""Samples per solver and budget where evaluation.final_samples asks for as many; never fewer than num_samples."""
COMPARED = 10_000
"""Training images, at most, that samples are compared with."""
LOOKED_AT = 256
"""Images, at most, on which the score is measured."""
PATHS = ("ancestral", "euler")
"""The solvers whose paths are shown, those left out that the config does not allow: one with noise, one of the ODE."""
SPECTRA = 4
"""Solvers whose spectra are shown: the config's own, and the nearest by distance."""
OWN, INDEX = "as configured", "index.html"


def report(experiment: Experiment, params: Any, step: int, workdir: Workdir, command: str) -> pathlib.Path:
    """Measure the model with these parameters, write the page and return its path; an earlier one is replaced.

    step: of the checkpoint. command: the run's command line without a mode, for what the page advises. All processes of
    a run call this; the first one writes, and holds the lock of the folder. Raises NotFinite, with the page written,
    where figures of it leave out what is not finite.
    """
    agree_on_data(lambda: experiment.data)
    compared, own, taught = rows.rows(experiment), rows.own(experiment), students(experiment)
    data = Data.of(experiment)
    total = sum(len(row.cells) for row in compared) + (own is not None) + len(taught)
    total += len(PATHS) + (data.looked_at is not None)
    with Progress("reporting", total, "measurements", show=jax.process_index() == 0) as progress:
        grids = KeptGrids(workdir.grids)
        results = _results(experiment, params, compared, own, data, grids, progress)
        results |= _of_students(taught, _count(experiment), data, progress)
        paths = _paths(experiment, params, progress)
        levels = None
        if data.looked_at is not None:
            levels = measure.noise_levels(experiment, params, data.looked_at, data.source, data.given)
            progress.update(1)
    config, found, choices = experiment.config, likelihoods(workdir.path / "likelihood"), best(compared, results)
    parts = [
        sections.samples(results, config.sampling.seed),
        _distances(experiment, results, data, choices),
        *([sections.neighbours(results)] if data.yardstick else []),
        *_spectra(results, data),
        sections.trajectories(
            paths,
            config.data.centered or experiment.spec.kind != "bytes",
            experiment.kind if experiment.spec.points else None,
        ),
        sections.noise_levels(levels, data.is_held_out) if levels else _without("Score and loss", data),
        *([rate_distortion(levels, experiment.kind)] if levels and levels.rate else []),
        sections.training(log(workdir.metrics)),
        sections.likelihood(found, command),
        evaluation(evaluations(workdir.path / "evaluation"), command),
    ]
    if jax.process_index() == 0:
        measured = {"step": step, "samples": _count(experiment)}
        numbers = {**measured, **sections.numbers(results, levels)}
        automatic = {**measured, "best": choices}
        _write(workdir, experiment, _facts(experiment, params, step, workdir), parts, numbers, automatic)
    if missing := sections.not_finite(results, levels, found):
        raise NotFinite(f"{workdir.report / INDEX} is written, without what is not finite: {'; '.join(missing)}")
    return workdir.report / INDEX


class Data(NamedTuple):
    """The data that the model is measured on: none of them where they are missing, and why."""

    yardstick: Yardstick | None
    held_out: np.ndarray | None
    looked_at: np.ndarray | None
    source: Source | None
    given: Mapping[str, Source]
    is_held_out: bool
    missing: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> "Data":
        """The held-out images where there are any, else those trained on."""
        try:
            data = experiment.data
            train, held_out = data.train, data.held_out
            require(len(train) > 1, "there is one training example, and distances need the covariance of 2 or more")
        except UsageError as error:
            return cls(None, None, None, None, {}, False, str(error))
        source, given = (held_out, data.held_out_condition) if len(held_out) else (train, data.condition)
        compared = experiment.spec.comparable(some(train, COMPARED))
        if len(compared) < 2:
            return cls(None, None, None, None, {}, False, "samples are whole, and fewer than two examples are")
        whole = experiment.spec.comparable(some(held_out, COMPARED))
        return cls(
            Yardstick(experiment.kind, compared),
            whole if len(whole) > 1 else None,
            chosen(len(source), LOOKED_AT),
            source,
            given,
            len(held_out) > 0,
        )


def _spectra(results: sections.Results, data: Data) -> list[Section]:
    """Of fields, those of the samples by the dearest budget of every solver that few enough are seen."""
    known = data.yardstick and data.yardstick.data_spectrum
    if known is None:
        return []
    dearest = {name: row[max(row)] for name, row in results.items() if row}
    nearest = sorted(dearest, key=lambda name: (name != OWN, dearest[name].distance or np.inf))[:SPECTRA]
    return [spectra({n: r.spectrum for n in nearest if (r := dearest[n]).spectrum is not None}, known)]


def _count(experiment: Experiment) -> int:
    """Samples per solver and budget."""
    c = experiment.config
    return max(2, c.sampling.num_samples, min(c.evaluation.final_samples, MOST_SAMPLES))


def _results(
    experiment: Experiment,
    params: Any,
    compared: list[rows.Row],
    own: Experiment | None,
    data: Data,
    grids: KeptGrids,
    progress: Progress,
) -> dict[str, dict[int, sections.Result]]:
    """The samples of every solver and budget, and the config's own under the budget next to theirs."""
    count = _count(experiment)
    results: dict[str, dict[int, sections.Result]] = {}
    for row in compared:
        for budget, cell in row.cells.items():
            drawn = measure.draw(cell, params, count, grids)
            results.setdefault(row.name, {})[budget] = sections.result(drawn, data.yardstick, experiment.kind)
            progress.update(1, f"{row.name}, {budget} evaluations")
    if own is not None:
        drawn = measure.draw(own, params, count, grids)
        budget = min(rows.BUDGETS, key=lambda b: abs(b - drawn.evaluations))
        results[OWN] = {budget: sections.result(drawn, data.yardstick, experiment.kind)}
        progress.update(1, OWN)
    return results


def _of_students(
    taught: list[Student], count: int, data: Data, progress: Progress
) -> dict[str, dict[int, sections.Result]]:
    """The samples of every student."""
    results: dict[str, dict[int, sections.Result]] = {}
    for name, cost, experiment, params in taught:
        drawn = measure.draw(experiment, params, count)
        results.setdefault(name, {})[cost] = sections.result(drawn, data.yardstick)
        progress.update(1, f"{name}, {cost} evaluations")
    return results


def _paths(experiment: Experiment, params: Any, progress: Progress) -> dict[str, measure.Path]:
    """Sample 0 on its way, by the name of the solver."""
    paths = {}
    for name in PATHS:
        walked = rows.variant(experiment, name, num_steps=rows.BUDGETS[-1])
        if walked is not None:
            paths[name] = measure.path(walked, params)
        progress.update(1, f"path of {name}")
    return paths


def _distances(experiment: Experiment, results: sections.Results, data: Data, choices: Mapping[str, Any]) -> Section:
    if data.yardstick is None:
        return _without("Distance against cost", data)
    held_out = None if data.held_out is None else (len(data.held_out), data.yardstick(data.held_out)[0])
    return sections.distances(results, _count(experiment), data.yardstick, held_out, choices)


def _without(title: str, data: Data) -> Section:
    return Section(title, f"Not measured, for want of images: {data.missing}.")


def _facts(experiment: Experiment, params: Any, step: int, workdir: Workdir) -> dict[str, str]:
    """What the page is about."""
    config, device = experiment.config, jax.devices()[0]
    average = canonical(config.sampling.average) or next(iter(experiment.averages))
    return {
        "run": str(workdir.path),
        "checkpoint": f"step {step:,}, weights: {average}",
        "SDE": config.sde.name,
        "network": f"{config.network.name}, {sum(p.size for p in jax.tree.leaves(params)):,} parameters",
        "images": f"{config.data.name}, {' x '.join(map(str, experiment.shape))}",
        "measured on": f"{jax.device_count()} x {device.device_kind}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }


def _config_table(experiment: Experiment) -> Table:
    """Every field, those in bold that differ from the defaults."""
    flat = flatten(experiment.config)
    bold = frozenset(i for i, (name, value) in enumerate(flat.items()) if SCHEMA[name] != value)
    return Table(("field", "value"), [(name, repr(value)) for name, value in flat.items()], bold)


def _write(
    workdir: Workdir,
    experiment: Experiment,
    facts: dict[str, str],
    parts: list[Section],
    numbers: dict[str, Any],
    automatic: dict[str, Any],
) -> None:
    """The figures and the numbers first, the page last; figures of an earlier report that this one lacks go."""
    folder = workdir.report
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {f"{part.name}.png": part.png for part in parts if part.png}
    seals = Seals(folder)
    seals.forget(INDEX, workdir.automatic.name)
    write_json(workdir.automatic, automatic)
    for name, png in pictures.items():
        with whole(folder / name) as unfinished:
            unfinished.write_bytes(png)
    for name in sections.FIGURES:
        if f"{name}.png" not in pictures:
            (folder / f"{name}.png").unlink(missing_ok=True)
    write_json(folder / "numbers.json", {**facts, **numbers})
    config = _config_table(experiment)
    folded = {f"Config: {len(config.rows)} fields, {len(config.bold)} of them not the defaults (bold)": config}
    with whole(folder / INDEX) as unfinished:
        unfinished.write_text(page(f"Report of {facts['run']}", facts, parts, folded), encoding="utf-8")
    seals.forget(*(f"{name}.png" for name in sections.FIGURES))
    seals.seal(*pictures, workdir.automatic.name, "numbers.json", INDEX)
