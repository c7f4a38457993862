"""Programs of an experiment, compiled for its config as it is when they are called."""

from collections.abc import Callable
from typing import Any

import jax

from score_sde.config import flatten
from score_sde.experiment.experiment import Experiment

UNCOMPILED = ("num_samples", "num_images", "batch_size", "average", "split", "seed")
"""Fields of the sections `sampling` and `likelihood` that a program is given, or that are read around it."""


class Program:
    """A pure function of arrays that reads one section of the experiment's config: jitted, and traced anew for others.

    seeded: whether it reads the section's seed itself.
    """

    def __init__(self, experiment: Experiment, section: str, function: Callable, seeded: bool = False) -> None:
        self._experiment, self._section = experiment, section
        self._left_out = [name for name in UNCOMPILED if name != "seed" or not seeded]
        self._program = jax.jit(lambda settings, *arguments: function(*arguments), static_argnums=0)

    def __call__(self, *arguments: Any) -> Any:
        section = flatten(self._experiment.config[self._section])
        settings = tuple(sorted((name, value) for name, value in section.items() if name not in self._left_out))
        return self._program(settings, *arguments)
