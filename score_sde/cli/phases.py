"""The phases of progressive distillation: one run each, in a folder of its own below the workdir."""

import copy
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from score_sde.config import Config
from score_sde.config.validation import validate


class Phase(NamedTuple):
    """A run by itself, and what it is of the whole, in words; "" where it is the whole."""

    config: Config
    workdir: pathlib.Path
    words: str = ""


def phases(config: Config, workdir: pathlib.Path) -> Iterator[Phase]:
    """The runs that a config names, in their order: itself, or distillation.steps' phases, each the next one's teacher.

    Raises UsageError for one that is not valid.
    """
    steps, updates = config.distillation.steps, config.distillation.updates
    if config.system.name != "distilled" or len(steps) == 1:
        yield Phase(config, workdir)
        return
    teacher = config.frozen.teacher
    for i, num_steps in enumerate(steps):
        own, place = copy.deepcopy(config), workdir / f"steps_{num_steps}"
        own.distillation.update(steps=(num_steps,), updates=())
        own.sampling.num_steps = num_steps
        own.frozen.teacher = teacher
        if updates:
            own.training.num_steps = updates[i]
        validate(own)
        yield Phase(own, place, f"phase {i + 1} of {len(steps)}: {num_steps} steps, from {teacher}")
        teacher = str(place)
