"""Checkpoints, frozen parts and snapshots written when NCSN's blocks had other names are read as today's."""

import json
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config import default
from score_sde.devices.arrays import collect
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.frozen import checksum, restored
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.training.layout import earlier_name, unwrapped, with_earlier_names, with_todays_names
from score_sde.training.snapshots import reconstruct, save_snapshot

META = {"step": 0, "position": 0, "pending": []}


@pytest.fixture(scope="module")
def experiment():
    config = default()
    config.network.update(name="ncsn", nf=4)
    config.sde.update(name="ve", discrete=True, num_scales=3)
    config.parametrization.update(prediction="score", label="level")
    config.training.update(times="levels")
    config.sampling.update(t_min=1e-5)
    return build(config)


@pytest.fixture(scope="module")
def state(experiment):
    """A state whose every array tells its place."""
    leaves, structure = jax.tree.flatten(experiment.abstract_state())
    return structure.unflatten([jnp.full(a.shape, i, a.dtype) for i, a in enumerate(leaves)])


def names(tree):
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)}


def same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_names_of_before():
    published = {"CondRCUBlock_2": "ConditionalRCUBlock_2", "CondRefineBlock_0": "ConditionalRefineBlock_0"}
    others = ("RCUBlock_1", "ConditionalResidualBlock_3", "Conv_0", "kernel")
    assert {n: earlier_name(n) for n in (*published, *others)} == published | {n: n for n in others}


def test_every_name_of_a_state_goes_there_and_back(state):
    earlier = with_earlier_names(state)
    found = {name for name in names(earlier) if "Cond" in name}
    assert {"Conditional" in n for n in found} == {True} and not [n for n in found if "/CondR" in n or "/CondM" in n]
    same(with_todays_names(earlier), state)


@pytest.mark.parametrize("layout", [with_earlier_names, lambda state: with_earlier_names(unwrapped(state))])
def test_a_checkpoint_of_before(layout, experiment, state, tmp_path):
    """Also one of before there were parts; what it is restored as is saved under today's names."""
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(0, layout(state), META)
    with closing(Checkpoints(tmp_path)) as checkpoints:
        found, meta = experiment.restore(checkpoints)
    assert meta == META
    same(found, state)


def test_a_frozen_part_of_before(experiment, state, tmp_path):
    """Its recorded checksum is over the names of then; other numbers are still noticed."""
    run = Workdir(tmp_path / "run")
    with closing(Checkpoints(run.checkpoints)) as checkpoints:
        checkpoints.save(0, with_earlier_names(state), META)
    run.claim(experiment.config, **experiment.notes())
    record = {"run": str(run.path), "step": 0, "checksum": checksum(with_earlier_names(experiment.weights(state)))}
    take = lambda record: restored("teacher", str(run.path), experiment.spec, True, record, build)
    assert record["checksum"] != checksum(experiment.weights(state))
    same(take(record).params, collect(experiment.weights(state)))
    with pytest.raises(UsageError, match="has changed since this run began"):
        take({**record, "checksum": "another"})
    assert json.loads(run.config.read_text())["config"]["network"]["name"] == "ncsn"


def test_a_snapshot_of_before(state, tmp_path):
    averages = {"power_0.050": state.params, "power_0.100": jax.tree.map(lambda a: 2 * a, state.params)}
    made = []
    for name, change in (("today", lambda tree: tree), ("before", with_earlier_names)):
        save_snapshot(tmp_path / name / "00000005.npz", {n: change(tree) for n, tree in averages.items()}, 40)
        made.append(reconstruct(tmp_path / name, 10, averages, 80, 0.07))
    same(*made)
