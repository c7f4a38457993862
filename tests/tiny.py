"""The tiny experiment that training tests share: digits, a network of 8 channels, milliseconds a step."""

import dataclasses
import pathlib
from contextlib import closing
from typing import Any

import flax.linen as nn

from score_sde.config import Config, default
from score_sde.experiment import build
from score_sde.experiment.experiment import Experiment
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir


def tiny_config(**changes) -> Config:
    """Changes are section__field=value."""
    config = default()
    config.network.update(nf=8, ch_mult=(1,), num_res_blocks=1, attn_resolutions=(8,), dropout=0.1)
    config.training.update(num_steps=12, batch_size=16, stratified=True)
    config.optimizer.update(warmup=4, learning_rate=1e-3)
    config.ema.update(averages=("warmup",), decay=0.9)
    config.data.update(random_flip=True, uniform_dequantization=True)
    config.sampling.update(solver="ancestral", num_steps=4, num_samples=8, batch_size=8)
    config.checkpoint.update(every=5, keep=2)
    config.logging.update(every=4, samples_every=0)
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


get_config = tiny_config


def trained_run(path: pathlib.Path, config: Config) -> Workdir:
    """A run of one step, as a checkpoint and a config."""
    workdir, experiment = Workdir(path), build(config)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        checkpoints.save(1, experiment.initial_state(), {"step": 1, "position": 16, "pending": []})
    workdir.claim(experiment.config, **experiment.notes())
    return workdir


def with_network(experiment: Experiment, network: nn.Module, **changes: Any) -> Experiment:
    """The experiment with another score network in its system, or other fields of that."""
    system: Any = experiment.system
    return dataclasses.replace(experiment, system=dataclasses.replace(system, network=network, **changes))
