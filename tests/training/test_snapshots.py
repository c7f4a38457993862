"""Snapshots: their files, the widths made of them against averages tracked at every step, and --mode sample of each."""

import dataclasses
import io
import json
import re
import shlex
import subprocess
import sys
import time
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.cli.main import parse
from score_sde.config import Config
from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from score_sde.training.ema import Power, Seen, update
from score_sde.training.posthoc import coefficients
from score_sde.training.snapshots import discard_after, reconstruct, save_snapshot, snapshot_path
from tests.processes import ROOT, end, environment, free_address
from tests.tiny import tiny_config
from tests.training.small import OneConvolution

GUIDE = (ROOT / "docs" / "averages.md").read_text()
STDS = (0.05, 0.1, 0.07, 0.15)
STORED = ("power_0.050", "power_0.100")
STEPS, EVERY, BATCH = 2048, 64, 16


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """Parameters on their way in float32: the widths stored, with snapshots, and two more that are tracked."""
    folder = tmp_path_factory.mktemp("averages")
    path = np.exp(-np.arange(STEPS)[:, None] / np.array([200, 2000, 20000])) + np.array([0, 1, 10])
    path += 0.1 * np.random.default_rng(0).normal(size=path.shape)
    averages = {f"power_{std:.3f}": Power(std) for std in STDS}

    def one(trees, step_and_params):
        k, params = step_and_params
        seen = Seen(k, (k + 1) * jnp.float32(BATCH), float(BATCH))
        trees = update(averages, trees, {"a": {"w": params}}, seen)
        return trees, trees

    start = {name: {"a": {"w": jnp.zeros(3)}} for name in averages}
    _, trees = jax.lax.scan(one, start, (jnp.arange(STEPS), jnp.asarray(path, jnp.float32)))
    for step in range(EVERY, STEPS + 1, EVERY):
        now = jax.tree.map(lambda x, step=step: x[step - 1], {name: trees[name] for name in STORED})
        save_snapshot(snapshot_path(folder, step), {**now, "constant": {"a": {"w": np.ones(3)}}}, step * BATCH)
    return folder, trees


def at(trees, step, names=STORED):
    return jax.tree.map(lambda x: np.asarray(x[step - 1]), {name: trees[name] for name in names})


@pytest.mark.parametrize("step", [1024, 1000, STEPS])
@pytest.mark.parametrize("std", [0.07, 0.15])
def test_a_width_put_together_is_the_width_tracked(tracked, step, std):
    """15 to 31 snapshots and the state's own: to 1e-3 of the noise 0.1; also where no snapshot was due."""
    folder, trees = tracked
    found = reconstruct(folder, step, at(trees, step), step * BATCH, std)
    expected = trees[f"power_{std:.3f}"]["a"]["w"][step - 1]
    assert found["a"]["w"].dtype == np.float32
    np.testing.assert_allclose(found["a"]["w"], expected, atol=1e-4)
    nearest = min(np.abs(trees[name]["a"]["w"][step - 1] - expected).max() for name in STORED)
    assert nearest > 1e-3


@pytest.mark.parametrize("std", [0.05, 0.1])
def test_a_stored_width_comes_back_exactly(tracked, std):
    folder, trees = tracked
    found = reconstruct(folder, STEPS, at(trees, STEPS), STEPS * BATCH, std)
    np.testing.assert_array_equal(found["a"]["w"], trees[f"power_{std:.3f}"]["a"]["w"][-1])


def test_the_file_is_the_same_whenever_it_is_written(tracked, monkeypatch):
    """No clock in it; float32 under flat names, the images as an integer, nothing of averages without a width."""
    folder, trees = tracked
    path = snapshot_path(folder, EVERY)
    before = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save_snapshot(path, at(trees, EVERY), EVERY * BATCH)
    assert path.read_bytes() == before
    assert {info.date_time for info in zipfile.ZipFile(io.BytesIO(before)).infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(path) as arrays:
        assert {name: arrays[name].dtype.name for name in arrays} == {
            "images": "int64",
            "power_0.050/a/w": "float32",
            "power_0.100/a/w": "float32",
        }
        assert int(arrays["images"]) == EVERY * BATCH
    assert path.name == "00000064.npz"


def test_snapshots_of_the_same_step_and_later_ones_are_ignored(tracked, tmp_path):
    """At step 128 the state is what counts, whatever stands in the files from there on."""
    folder, trees = tracked
    for step in (64, 128, 192):
        content = snapshot_path(folder, 64).read_bytes() if step == 64 else b"of another life"
        snapshot_path(tmp_path, step).write_bytes(content)
    found = reconstruct(tmp_path, 128, at(trees, 128), 128 * BATCH, 0.07)
    c = coefficients(*np.array([[64, 64, 128, 128], [0.05, 0.1] * 2]), np.array([128]), np.array([0.07]))
    nodes = np.stack([np.asarray(trees[name]["a"]["w"][s - 1], np.float64) for s in (64, 128) for name in STORED])
    np.testing.assert_allclose(found["a"]["w"], c[:, 0] @ nodes, rtol=1e-6)
    discard_after(tmp_path, 128)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000064.npz", "00000128.npz"]
    with pytest.raises(
        UsageError, match=r"no snapshot from before step 64,.* width 0\.07 .*ema\.snapshot_every above 0"
    ):
        reconstruct(tmp_path, 64, at(trees, 64), 64 * BATCH, 0.07)
    with pytest.raises(UsageError, match=r"00000128\.npz is not a snapshot this program wrote .*: remove it"):
        reconstruct(tmp_path, 192, at(trees, 192), 192 * BATCH, 0.07)
    with pytest.raises(UsageError, match="nowhere has no snapshot"):
        reconstruct(tmp_path / "nowhere", 64, at(trees, 64), 64 * BATCH, 0.07)
    discard_after(tmp_path / "nowhere", 0)


@pytest.mark.parametrize("kind", ["missing", "damaged"])
def test_a_snapshot_that_was_removed_or_damaged_is_named(tracked, tmp_path, kind):
    _, trees = tracked
    for step in (64, 128):
        save_snapshot(snapshot_path(tmp_path, step), at(trees, step), step * BATCH)
    whole = reconstruct(tmp_path, 192, at(trees, 192), 192 * BATCH, 0.07)
    path = snapshot_path(tmp_path, 64)
    content = path.read_bytes()
    path.unlink() if kind == "missing" else path.write_bytes(content[:900] + b"?" + content[901:])
    with pytest.raises(UsageError, match=rf"00000064\.npz is {kind}, of which the average of width 0\.07 .*power_0"):
        reconstruct(tmp_path, 192, at(trees, 192), 192 * BATCH, 0.07)
    path.write_bytes(content)
    again = reconstruct(tmp_path, 192, at(trees, 192), 192 * BATCH, 0.07)
    np.testing.assert_array_equal(again["a"]["w"], whole["a"]["w"])
    discard_after(tmp_path, 0)  # what a run makes anew is missed by nobody
    save_snapshot(snapshot_path(tmp_path, 128), at(trees, 128), 128 * BATCH)
    reconstruct(tmp_path, 192, at(trees, 192), 192 * BATCH, 0.07)


PROCESS = """
import pathlib, sys
import jax, numpy as np
from score_sde.devices.parallel import Sharded
from score_sde.training.snapshots import reconstruct, save_snapshot, snapshot_path
folder, address, process = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(address, num_processes=2, process_id=process)
host = {f"power_{w}": {"w": np.random.RandomState(k).rand(64, 64)} for k, w in enumerate(("0.050", "0.100"))}
host = jax.tree.map(np.float32, host)
(folder / str(process)).mkdir()
save_snapshot(snapshot_path(folder / str(process), 1), host, 16)
spread = Sharded(2).place_state(jax.tree.map(lambda x: 2 * x, host))
assert not any(x.is_fully_addressable for x in jax.tree.leaves(spread))
found, expected = (reconstruct(folder / str(process), 2, averages, 32, 0.07)["w"]
                   for averages in (spread, jax.tree.map(lambda x: 2 * x, host)))
np.testing.assert_array_equal(found, expected)
"""


def test_averages_that_lie_over_two_processes_are_put_together_in_both(tmp_path):
    """Half of every array in each, against the same arrays on the host."""
    arguments = [sys.executable, "-c", PROCESS, str(tmp_path), free_address()]
    env = environment(tmp_path / "cache")
    both = [subprocess.Popen([*arguments, str(i)], env=env, stderr=subprocess.PIPE, text=True) for i in (0, 1)]
    for process in both:
        code, said = end(process)
        assert code == 0, said


def config(**changes) -> Config:
    changes = {"ema__averages": ("warmup", "power"), "ema__snapshot_every": 4, **changes}
    return tiny_config(training__steps_per_call=5, checkpoint__every=12, logging__every=12, **changes)


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: OneConvolution())
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_network):
    """12 steps on 8 devices, with snapshots after 4, 8 and 12."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    experiment = build(config())
    workdir.averages.mkdir()
    snapshot_path(workdir.averages, 9).write_bytes(b"of a run that was killed")
    workdir.claim(config())
    return workdir, experiment, train(experiment, workdir, show=False)


def test_the_loop_writes_them_on_their_boundaries(trained):
    workdir, _, state = trained
    names = [f"{s:08d}.npz" for s in (4, 8, 12)]
    assert sorted(path.name for path in workdir.averages.iterdir()) == [*names, "seals.json"]
    with np.load(snapshot_path(workdir.averages, 12)) as arrays:
        assert int(arrays["images"]) == 12 * 16
        np.testing.assert_array_equal(
            arrays["power_0.050/score/Conv_0/kernel"], state.averages["power_0.050"]["score"]["Conv_0"]["kernel"]
        )
    assert set(state.averages) == {"warmup", *STORED}


def test_weights_by_name(trained):
    _, experiment, state = trained
    assert experiment.weights(state) is experiment.weights(state, "warmup") is state.averages["warmup"]
    assert experiment.weights(state, "raw") is state.params
    assert experiment.weights(state, "power_0.05") is state.averages["power_0.050"]
    with pytest.raises(UsageError, match=r"average 'power_0\.070' is not stored: did you mean power_0"):
        experiment.weights(state, "power_0.070")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    main, other = (jax.jit(experiment.score(state, name))(x, jnp.float32(0.5)) for name in ("", "raw"))
    assert np.abs(main - other).max() > 1e-4


def test_the_guides_code_runs(trained):
    """It reads the checkpoint and puts a width together of as many images as its position says."""
    workdir, experiment, state = trained
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    *first, last = block.strip().splitlines()
    names = {"experiment": experiment, "workdir": workdir}
    exec("\n".join([*first, f"found = {last}"]), names)
    expected = reconstruct(workdir.averages, 12, state.averages, 12 * 16, 0.07)
    jax.tree.map(np.testing.assert_array_equal, names["found"], expected)


def test_the_guides_commands_parse_and_validate(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = [line.split("launch.py")[1] for line in GUIDE.splitlines() if "launch.py" in line]
    assert len(commands) == 3
    for command in commands:
        validate(parse(["launch.py", *shlex.split(command)]).config)


def test_sampling_every_kind_of_average(trained, capsys):
    """The weights are those named; every average has a folder of its own, the main one the usual one."""
    workdir, experiment, state = trained
    expected = reconstruct(workdir.averages, 12, state.averages, 12 * 16, 0.07)
    for name in ("raw", "power_0.050", "power_0.070"):
        one = dataclasses.replace(experiment, config=config(sampling__average=name))
        tree = modes.weights(one, state, 12 * 16, workdir)
        wanted = expected if name == "power_0.070" else experiment.weights(state, name)
        jax.tree.map(np.testing.assert_array_equal, tree, wanted)
    assert modes.sample(config(), workdir) == 0
    assert modes.sample(config(sampling__average="power_0.070"), workdir) == 0
    folders = [workdir.samples / f"ancestral-4-seed0{suffix}" for suffix in ("", "-power_0.070")]
    assert sorted(workdir.samples.iterdir()) == folders
    settings = [json.loads((folder / "settings.json").read_text()) for folder in folders]
    assert [s["sampling"]["average"] for s in settings] == ["", "power_0.070"]
    images = [np.load(folder / "samples.npz")["samples"] for folder in folders]
    assert (images[0] != images[1]).any()
    capsys.readouterr()
    assert modes.sample(config(sampling__average="power_0.070"), workdir) == 0
    assert "already holds" in capsys.readouterr().out
