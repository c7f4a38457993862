"""The students that a report shows beside the solvers: runs that draw in few steps, from the same noise."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from score_sde.config.automatic import KEPT
from score_sde.config.validation import validate
from score_sde.errors import UsageError, require
from score_sde.experiment import Experiment
from score_sde.experiment.building import build, reconfigured
from score_sde.experiment.frozen import restored
from score_sde.storage.workdir import Workdir

EVALUATIONS = (1, 2, 4, 8)
"""Network evaluations per sample, of those that a student can do with."""
FIELD = "report.students"


class Student(NamedTuple):
    """A run that draws in so many evaluations: its name in figures, its experiment and parameters."""

    name: str
    evaluations: int
    experiment: Experiment
    params: Any


def students(experiment: Experiment) -> list[Student]:
    """Those that report.students names, a folder of phases for all of them, with the seeds of the experiment's samples.

    Raises UsageError for a run that is missing, that has data of another shape, kind or range, or that draws in no few
    steps.
    """
    return [
        found for text in experiment.config.report.students for run in _runs(text) for found in _of(run, experiment)
    ]


def _runs(text: str) -> list[str]:
    """The phases of a folder that has them, the most steps first; or the run itself."""
    folder = pathlib.Path(text)
    phases = [place for place in folder.glob("steps_*") if Workdir(place).config.is_file()]
    if Workdir(folder).config.is_file() or not phases:
        return [text]
    return [str(place) for place in sorted(phases, key=lambda place: -int(place.name.removeprefix("steps_")))]


def _of(run: str, experiment: Experiment) -> Iterator[Student]:
    """Every number of evaluations that the run's system has."""
    c = experiment.config
    found = restored(FIELD, run, experiment.spec, c.data.centered, None, build)
    other, place, count = found.experiment, pathlib.Path(found.record.run), 0
    name = place.parent.name if place.name.startswith("steps_") else place.name
    for evaluations in EVALUATIONS:
        config = other.config.copy_and_resolve_references()
        config.sampling.update({field: c.sampling[field] for field in KEPT if field not in ("t_min", "average")})
        config.sampling.update(solver="few_step", denoise=True, num_steps=evaluations)
        try:
            validate(config)
        except UsageError:
            continue
        count += 1
        yield Student(name, evaluations, reconfigured(other, config), found.params)
    require(
        count,
        f"{FIELD}={run} draws no samples in {', '.join(map(str, EVALUATIONS))} evaluations by"
        " sampling.solver='few_step': name runs of students, or leave it empty",
    )
