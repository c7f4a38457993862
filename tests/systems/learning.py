"""Trainings of named systems, and all that they change."""

import dataclasses
import shutil

import jax
import numpy as np

from score_sde.experiment import build
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from tests.systems import game


def learn(config, folder, strategy=None):
    workdir = Workdir(folder)
    experiment = build(config, workdir.record())
    experiment = dataclasses.replace(experiment, strategy=strategy) if strategy else experiment
    return train(experiment, workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


def without_its_end(folder, copy):
    """A copy of a run that lacks the last of its checkpoints."""
    shutil.copytree(folder, copy)
    *_, before, last = sorted((copy / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    shutil.rmtree(last)
    assert int(before.name) < int(last.name)
    return copy


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.averages, state.optimizer))]
