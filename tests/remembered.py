"""The same command again and again in one process, for tests of what is around it: built, read and compiled once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from score_sde.cli import evaluating, modes
from score_sde.config import Config
from score_sde.experiment import Experiment
from score_sde.experiment.generation import Generator
from score_sde.storage.checkpoint import Checkpoints

BUILD, RESTORE = modes.build, Experiment.restore


@contextmanager
def remembered() -> Iterator[None]:
    """Experiments are those of equal configs and records, their generators and what they restore are kept."""
    experiments, generators, states = dict[str, Experiment](), dict[Any, Generator](), dict[Any, Any]()

    def build(config: Config, record: Any = None, **options: Any) -> Experiment:
        key = json.dumps([json.loads(config.to_json()), record, options], sort_keys=True)
        if key not in experiments:
            experiments[key] = BUILD(config.copy_and_resolve_references(), record, **options)
        return experiments[key]

    def restore(self: Experiment, checkpoints: Checkpoints, step: int | None = None) -> Any:
        key = id(self), str(checkpoints.directory.resolve()), step
        if key not in states:
            states[key] = self, RESTORE(self, checkpoints, step)
        return states[key][1]

    def generator(experiment: Experiment, grids: Any = None) -> Generator:
        key = id(experiment), Experiment.draw, Experiment.times  # of which tests put others in their places
        if key not in generators:
            generators[key] = Generator(experiment, grids)
        generators[key]._grids = grids
        return generators[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modes, "build", build)
        patch.setattr(Experiment, "restore", restore)
        for module in (modes, evaluating):
            patch.setattr(module, "Generator", generator)
        yield
