"""Programs of an experiment, compiled for its config as it is when they are called."""

from collections.abc import Callable
from typing import Any

import jax

from score_sde.config import flatten
from score_sde.devices.precision import at
from score_sde.experiment.experiment import Experiment
from score_sde.networks.remat import compiler_options

UNCOMPILED = ("num_samples", "num_images", "batch_size", "average", "split", "seed")
"""Fields of the sections `sampling` and `likelihood` that a program is given, or that are read around it."""


class Program:
    """A pure function of arrays that reads one section of the experiment's config: jitted, and traced anew for others.

    Its products have the section's precision. seeded: whether it reads the section's seed itself.
    """

    def __init__(self, experiment: Experiment, section: str, function: Callable, seeded: bool = False) -> None:
        self._experiment, self._section, self._function = experiment, section, function
        self._left_out = [name for name in UNCOMPILED if name != "seed" or not seeded]
        # Scores may be differentiated in it, whose norms are then computed again.
        options = compiler_options(experiment.platform.name)
        self._program = jax.jit(self._traced, static_argnums=0, compiler_options=options)

    def __call__(self, *arguments: Any) -> Any:
        return self._program(self.settings(), *arguments)

    def trace(self, *arguments: Any) -> jax.stages.Traced:
        """Of arguments or their shapes: what it would run."""
        return self._program.trace(self.settings(), *arguments)

    def settings(self) -> tuple[tuple[str, Any], ...]:
        """What the program depends on but its arguments, by name: it is compiled for these."""
        config = self._experiment.config
        section = {name: value for name, value in flatten(config[self._section]).items() if name not in self._left_out}
        if self._section == "sampling":
            asked = self._experiment.asked
            sections = ("guidance", "measurement", "editing")
            section |= flatten({name: config[name] for name in sections})
            section["asked"] = asked and asked.digest
        return tuple(sorted(section.items()))

    def _traced(self, settings: Any, *arguments: Any) -> Any:
        del settings  # which jit compares
        return at(self._experiment.config[self._section].precision, self._function)(*arguments)
