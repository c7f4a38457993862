"""What a student takes from the run that it learns from, and what that run must be."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from score_sde.config import Config, flatten
from score_sde.data.spec import Spec
from score_sde.errors import require
from score_sde.experiment.frozen import Frozen
from score_sde.systems import Score, Teacher
from score_sde.systems.teacher import PART

FREE = ("network.dropout",)
"""Fields of a network that its parameters are not of."""
NO_MEAN = "whose denoiser is no mean over this run's examples at its t"
TEACHERS = {
    "distilled": (("score", "reflow", "distilled"), NO_MEAN),
    "consistency": (("score",), NO_MEAN),
    "reflow": (("score", "reflow"), "whose noise and samples are no two ends of an ODE"),
}
"""By its student's system.name: the systems that a teacher is of, and what a run of another lacks."""


def taught(config: Config, given: Frozen | None) -> Teacher:
    """The teacher as the config's section `teacher` sees it; UsageError for one that has no null label to be guided by.

    Without its run, where nothing is trained.
    """
    scale = config.teacher.scale
    if given is None or given.experiment is None:
        return Teacher(None, scale)  # pyright: ignore[reportArgumentType]
    told = given.experiment.config
    require(
        scale == 1 or (given.experiment.spec.labels is not None and told.network.label_dropout > 0),
        f"teacher.scale={scale} is between a label and none, and frozen.teacher={given.record.run} knows no label or"
        " was never without (data.condition, network.label_dropout): name another one, or leave teacher.scale at 1.0",
    )
    require(
        given.experiment.spec.text is None,
        f"frozen.teacher={given.record.run} reads a text, and a student reads none: name a teacher without one",
    )
    return Teacher(given.experiment.score_system, scale)


def read(student: str, frozen: Mapping[str, Frozen]) -> Frozen | None:
    """The teacher's run, where there is one and something is trained; UsageError for one of a system not in TEACHERS.

    student: the system.name of what learns from it.
    """
    given = frozen.get(PART)
    if given is None or given.experiment is None:
        return None
    told, (names, lacks) = given.experiment.config.system.name, TEACHERS[student]
    require(
        told in names,
        f"frozen.teacher={given.record.run} is a run of system.name={told!r}, {lacks}: name one of system.name="
        + " or ".join(map(repr, names)),
    )
    return given


def fields_of(own: Score) -> dict[str, Any]:
    """A score system's fields by name, for a system that has more of them and other frozen parts."""
    return {field.name: getattr(own, field.name) for field in dataclasses.fields(own) if field.name != "frozen"}


def check_alike(config: Config, given: Frozen, sections: Sequence[str]) -> None:
    """UsageError for a teacher of other fields, of these sections or names, than its student has."""
    own, there = flatten(config), flatten(given.experiment.config)
    of = lambda name: name in sections or name.split(".")[0] in sections
    apart = [name for name in own if of(name) and name not in FREE and own[name] != there[name]]
    said = ", ".join(f"{name}={there[name]!r} and not {own[name]!r}" for name in apart[:4])
    require(
        not apart,
        f"frozen.teacher={given.record.run} has {said}: a student starts at its teacher's weights and keeps their"
        " meaning, so give it these values, or name another teacher",
    )


def check_drawing(spec: Spec, given: Frozen) -> None:
    """UsageError for a teacher that is shown a picture, or told something else than its student."""
    told, theirs = given.experiment.config, given.experiment.spec.labels
    name = f"frozen.teacher={given.record.run}"
    require(
        told.degradation.name == "none",
        f"{name} is shown degradation.name={told.degradation.name!r}, and nothing shows it pictures here: name another",
    )
    counts = tuple(labels.count if labels else 0 for labels in (theirs, spec.labels))
    require(
        counts[0] == counts[1],
        f"{name} is told {counts[0]} classes and this run {counts[1]}: give data.condition and the data its own values",
    )


def check_steps(num_steps: int, rho: float, given: Frozen) -> None:
    """UsageError for a distilled teacher that does not draw in twice as many steps, at the same times among others."""
    told = given.experiment.config
    if told.system.name != "distilled":
        return
    (there,), its_rho = told.distillation.steps, told.distillation.rho
    require(
        there == 2 * num_steps,
        f"distillation.steps={num_steps} is not half of the {there} steps of frozen.teacher={given.record.run}: every"
        f" step of a student is two of its teacher's, so give it {there // 2}, or the teacher's own teacher",
    )
    require(
        its_rho == rho,
        f"distillation.rho={rho} is not frozen.teacher={given.record.run}'s {its_rho}, by which its steps lie: give it"
        " that",
    )
