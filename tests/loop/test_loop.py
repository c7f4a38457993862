"""The loop: its files, its boundaries, and resumption to the last bit after SIGKILL."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import signal
from contextlib import closing
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.cli.main import main
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.experiment import Experiment, build
from score_sde.loop import loop
from score_sde.loop.health import NonFiniteLoss
from score_sde.loop.loop import train
from score_sde.solvers.sampling import Samples
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from tests import chaos
from tests.golden_files import relative_error
from tests.processes import ROOT, end, environment, lines, start, wait_for
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("cache"), config="tests/light.py")


def launched(workdir: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
    """The command on the same experiment in this process: its exit code, what it printed, what it said on stderr."""
    flags = ["--config", str(ROOT / "tests" / "light.py"), "--workdir", str(workdir)]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(["launch.py", *flags, *chaos.RUN, *arguments])
    return code, out.getvalue(), said.getvalue()


class Undisturbed(NamedTuple):
    workdir: pathlib.Path
    pid: int
    second: tuple[int, str, str]
    """How the same command ended that was given in the middle of it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, env):
    """The run that nothing happens to, but that it is halted while another one asks for its directory."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    process = start(workdir, env, *chaos.RUN)
    wait_for(lambda: len(lines(workdir)) > 2, [process])
    process.send_signal(signal.SIGSTOP)
    second = launched(workdir)
    process.send_signal(signal.SIGCONT)
    code, said = end(process)
    assert code == 0, said
    return Undisturbed(workdir, process.pid, second)


@pytest.fixture(scope="module")
def uninterrupted(undisturbed):
    return undisturbed.workdir


def test_killed_damaged_stopped_and_resumed_is_bitwise_the_uninterrupted_run(tmp_path, uninterrupted, env):
    """SIGKILL in mid-save, a flipped bit and SIGINT; tests/chaos.py does more of it."""
    chaos.interrupt(tmp_path, env, signal.SIGKILL, 15, in_save=True)
    damaged = chaos.flip_a_byte(tmp_path, random.Random(0))
    said = chaos.interrupt(tmp_path, env, signal.SIGINT, 15)
    assert f"ignoring {damaged}, which is damaged" in said
    assert "stopped by SIGINT" in said
    assert "resuming" in chaos.finish(tmp_path, env)
    chaos.assert_same(tmp_path, uninterrupted)
    assert len((tmp_path / "config_history.jsonl").read_text().splitlines()) == 2


def test_a_second_training_of_the_same_workdir_is_refused(undisturbed):
    code, _, said = undisturbed.second
    assert code == 2
    assert str(undisturbed.pid) in said


def resumed(workdir, tmp_path, name: str, strategy, **changes) -> np.ndarray:
    """All numbers of the state after 20 steps more, from a copy of the workdir, mapped another way."""
    copy = tmp_path / name
    shutil.copytree(workdir, copy)
    config = tiny_config(training__num_steps=40, **EVERY_20, **changes)
    experiment = dataclasses.replace(build(config), strategy=strategy)
    state = train(experiment, Workdir(copy), show=False)
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves((state.params, state.averages))])


EVERY_20 = {"checkpoint__every": 20, "training__steps_per_call": 20, "logging__every": 20}


def test_a_run_goes_on_on_other_devices_and_by_another_strategy(tmp_path):
    """20 steps by pmap on 8 devices, then 20 more on 8, on 1, and sharded over 8; or with twice the batch."""
    train(build(tiny_config(training__num_steps=20, **EVERY_20)), Workdir(tmp_path / "first"), show=False)
    devices = jax.devices()
    ways = {"1": Pmap(devices[:1]), "sharded": Sharded(fsdp=0)}
    reference = resumed(tmp_path / "first", tmp_path, "8", Pmap(devices))
    for name, strategy in ways.items():
        assert relative_error(resumed(tmp_path / "first", tmp_path, name, strategy), reference) < 1e-5
    larger = resumed(tmp_path / "first", tmp_path, "larger", Pmap(devices[:1]), training__batch_size=32)
    assert 1e-5 < relative_error(larger, reference) < 0.1
    with closing(Checkpoints(tmp_path / "larger" / "checkpoints")) as checkpoints:
        _, meta = checkpoints.restore(build(tiny_config()).abstract_state())
    assert meta["position"] == 20 * 16 + 20 * 32


def test_a_complete_run_says_so_and_writes_nothing(uninterrupted):
    assert json.loads((uninterrupted / "data.json").read_text())["training"] == 1500
    files = lambda: {p: p.stat().st_mtime_ns for p in uninterrupted.rglob("*") if p.is_file()}
    before = files()
    code, out, _ = launched(uninterrupted)
    assert code == 0
    assert "complete" in out
    assert files() == before


def test_sample_mode_writes_and_reproduces(uninterrupted):
    """On eight devices, of a run on one."""
    run = lambda *more: launched(uninterrupted, "--mode", "sample", "--config.sampling.num_samples=11", *more)
    folder = uninterrupted / "samples" / "ancestral-4-seed0"
    assert run()[0] == 0
    first = np.load(folder / "samples.npz")["samples"]
    assert first.shape == (11, 8, 8, 1)
    assert first.dtype == np.uint8
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["evaluations"] == 5
    assert settings["step"] == chaos.STEPS
    assert "already" in run()[1]
    code, _, said = run("--config.sampling.batch_size=16")
    assert code == 2
    assert "--overwrite" in said
    assert run("--config.sampling.batch_size=16", "--overwrite")[0] == 0
    np.testing.assert_allclose(np.load(folder / "samples.npz")["samples"].astype(int), first, atol=1)


def test_a_call_is_shortened_to_end_on_every_boundary(tmp_path, monkeypatch):
    """steps_per_call 5 with logs and checkpoints every 4, grids every 6 and 12 steps in all; on 8 devices.

    At step 6 comes a signal: there is a checkpoint then, and the grid is drawn by the run that goes on.
    """
    changes = {"training__steps_per_call": 5, "logging__samples_every": 6, "checkpoint__every": 4}
    experiment, advance = build(tiny_config(**changes)), loop._Run._advance

    def signalled(run, *call):
        advance(run, *call)
        if run.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop._Run, "_advance", signalled)
    with pytest.raises(loop.Stopped, match="stopped by SIGTERM after step 6"):
        train(experiment, Workdir(tmp_path), show=False)
    monkeypatch.undo()
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [4, 6]
    assert not (tmp_path / "samples").exists()
    state = train(experiment, Workdir(tmp_path), show=False)
    assert int(state.step) == 12
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12]
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [8, 12]
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step_00000006.png", "step_00000012.png"]
    assert any((tmp_path / "tensorboard").iterdir())


def test_samples_that_are_not_finite_are_told_and_marked_in_grids(tmp_path, monkeypatch, capsys):
    """One of eight: training goes on. What draws costs nothing here."""

    def draw(self, params, keys, condition=None, times=None):
        x = jnp.zeros((len(keys), 8, 8, 1)).at[2].set(jnp.nan)
        return Samples(x, jnp.int32(1))

    monkeypatch.setattr(Experiment, "draw", draw)
    experiment = build(tiny_config(training__num_steps=2, logging__samples_every=2))
    train(experiment, Workdir(tmp_path), show=False)
    path = tmp_path / "samples" / "step_00000002.png"
    said = f"{path}: 1 of 8 samples are not finite, and marked by a chequerboard; training goes on\n"
    assert said in capsys.readouterr().err
    pixels = np.asarray(Image.open(path))
    assert set(np.unique(pixels[52:100, 2:50])) == {0, 255} and set(np.unique(pixels[2:50, 2:50])) == {128}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    """The first update breaks the parameters: it is neither logged nor kept."""
    experiment = build(tiny_config(optimizer__learning_rate=1e30, optimizer__warmup=0, checkpoint__every=2))
    experiment = dataclasses.replace(experiment, strategy=Pmap(jax.local_devices()[:1]))
    with pytest.raises(NonFiniteLoss, match=r"' inf at step 1, on examples 0 to 15 .* lower optimizer\.learning_rate"):
        train(experiment, Workdir(tmp_path), show=False)
    assert not (tmp_path / "checkpoints").exists()
    assert lines(tmp_path) == []


def test_exit_code_3_of_a_loss_that_is_not_finite(tmp_path, monkeypatch, capsys):
    def broken(*args, **options):
        raise NonFiniteLoss("the loss is nan at step 7")

    monkeypatch.setattr(modes, "train_loop", broken)
    assert modes.train(tiny_config(), Workdir(tmp_path)) == 3
    assert "step 7" in capsys.readouterr().err
