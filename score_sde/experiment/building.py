"""From a validated config to an experiment: what it names is made, and what it asks of other runs is read."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from score_sde.config import Config, flatten
from score_sde.config.text_checks import TEXTS
from score_sde.config.validation import DECODERS, SAMPLING, validate
from score_sde.data.spec import Spec
from score_sde.errors import require
from score_sde.experiment import factories, objects
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.drawing import Drawing
from score_sde.experiment.experiment import Experiment, Factory
from score_sde.experiment.frozen import Frozen, Record, restored
from score_sde.experiment.latents import scaled
from score_sde.experiment.resolving import resolve
from score_sde.experiment.starting import origin
from score_sde.names import FIELD
from score_sde.rng import positions
from score_sde.systems.latent import AUTOENCODER


def build(
    config: Config,
    record: Mapping[str, Any] | None = None,
    system: Factory | None = None,
    training: bool = True,
) -> Experiment:
    """Everything that a config names; raises UsageError for what is wrong with it.

    record: what config.json of the run says (Workdir.record), where there is one: then the data are not read. system:
    one of your own in the place of `system.name`. training: False where nothing is trained, for which a named system's
    frozen parts are not read where the record has them: a student's samples need no teacher.
    """
    validate(config, own_system=system is not None)
    spec, data = resolve(config, record, own_system=system is not None)
    before = (record or {}).get("frozen", {})
    take = lambda part, run: restored(f"frozen.{part}", run, spec, config.data.centered, before.get(part), build)
    aside = () if system is not None else SAMPLING[config.system.name]
    unread = set() if training or system is not None else set(before) - {*aside, *DECODERS}
    taken = {part: take(part, run) for part, run in config.frozen.items() if run and part not in unread}
    taken |= {part: Frozen(Record(**before[part])) for part in unread}
    parts = {part: found for part, found in taken.items() if part in aside}
    frozen = {part: found for part, found in taken.items() if part not in aside}
    if config.system.name == "latent" and system is None and AUTOENCODER in frozen:
        frozen[AUTOENCODER], data = scaled(config, spec, frozen[AUTOENCODER], before.get(AUTOENCODER), data)
    measured = (record or {}).get("automatic")
    experiment = assemble(config, spec, system or factories.SYSTEMS[config.system.name], frozen, measured, parts)
    if parts or config.guidance.log_prob:
        experiment.drawing.check(experiment.sde)
    for part in experiment.system.frozen:
        require(part in frozen, f"frozen.{part} is empty, and the system asks for it: name a run, as <run>[@step]")
    for part in frozen:
        require(part in experiment.system.frozen, f"frozen.{part} is not asked for by the system: leave it empty")
    if training and (spec.text is not None or spec.beside is not None):
        experiment.drawing.of_samples(positions(0, 1))
    drawn = set(config.data.condition) <= {"label", FIELD, *TEXTS} or not config.logging.samples_every
    require(
        drawn,
        f"data.condition={config.data.condition}: samples have labels, texts and fields alone, so grids while training"
        " have no condition: set logging.samples_every=0, and pass the condition to the system's own draw",
    )
    other = functools.partial(build, system=system)
    begun = origin(config, spec, (record or {}).get("start"), experiment.abstract_params, other)
    imported = (record or {}).get("imported", {}).get("step", 0)
    experiment = dataclasses.replace(experiment, origin=begun, imported=imported)
    if data is not None:
        experiment.__dict__["data"] = data  # read already
    return experiment


def assemble(
    config: Config,
    spec: Spec,
    factory: Factory,
    frozen: Mapping[str, Any],
    measured: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment of a valid config for data that are described; nothing is read.

    measured: what `auto` goes by, where a report has measured it. parts: those of other runs that samples alone take,
    which no record of the run has.
    """
    drawing = Drawing(config, Conditions(spec), measured, parts or {})
    system = factory(config, spec, drawing, frozen)
    return Experiment(
        config=config,
        spec=spec,
        system=system,
        factory=factory,
        kind=objects.KINDS[spec.kind](config.data, spec),
        optimizers={part: objects.optimizer(config, part) for part in system.parts},
        averages=objects.averages(config),
        strategy=objects.STRATEGIES[config.parallel.strategy](config.parallel),
        drawing=drawing,
        frozen=frozen,
        built=flatten(config),
    )


def reconfigured(experiment: Experiment, config: Config) -> Experiment:
    """The same run under a config that differs in how it samples."""
    e = experiment
    other = assemble(config, e.spec, e.factory, e.frozen, e.drawing.best, e.drawing.parts)
    return dataclasses.replace(other, origin=e.origin, imported=e.imported)
