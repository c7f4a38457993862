"""The loop: its files, its boundaries, and resumption to the last bit after SIGKILL."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from score_sde import modes
from score_sde.checkpoint import Checkpoints
from score_sde.experiment import build
from score_sde.parallel import Pmap
from score_sde.training.health import NonFiniteLoss
from score_sde.training.loop import train
from score_sde.workdir import Workdir
from tests.tiny import tiny_config

ROOT = pathlib.Path(__file__).parents[2]


def read_metrics(path: pathlib.Path) -> list[dict]:
    log = path / "metrics.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def command(workdir: pathlib.Path, *overrides: str) -> list[str]:
    config = ["--config", "tests/tiny.py", "--workdir", str(workdir)]
    return [sys.executable, "launch.py", *config, *overrides]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One device, and a compilation cache that the runs share: the second start compiles nothing."""
    cache = tmp_path_factory.mktemp("cache")
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return kept | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


OVERRIDES = (
    "--config.training.num_steps=200",
    "--config.training.steps_per_call=5",
    "--config.checkpoint.every=15",
    "--config.logging.every=5",
    "--config.ema.averages=('warmup','power')",
    "--config.ema.snapshot_every=40",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, environment):
    """The run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    done = subprocess.run(command(workdir, *OVERRIDES), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return workdir


def final_state(workdir: pathlib.Path):
    checkpoints = Checkpoints(workdir / "checkpoints")
    state, meta = checkpoints.restore(build(tiny_config(ema__averages=("warmup", "power"))).abstract_state())
    checkpoints.close()
    return state, meta


def interrupt(workdir: pathlib.Path, environment: dict, signum: int, after: int) -> int:
    """Start the run and send the signal once `after` lines are logged; the exit code."""
    run = subprocess.Popen(command(workdir, *OVERRIDES), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    log = workdir / "metrics.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= after):
        assert run.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.002)
    run.send_signal(signum)
    return run.wait()


def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(tmp_path, uninterrupted, environment):
    """SIGKILL; SIGTERM and SIGINT, which checkpoint that very step and exit 143 and 130; then to the end."""
    assert interrupt(tmp_path, environment, signal.SIGKILL, after=5) == -signal.SIGKILL
    assert interrupt(tmp_path, environment, signal.SIGTERM, after=12) == 143
    assert interrupt(tmp_path, environment, signal.SIGINT, after=20) == 130
    done = subprocess.run(command(tmp_path, *OVERRIDES), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    state, meta = final_state(tmp_path)
    expected, _ = final_state(uninterrupted)
    assert meta["step"] == int(state.step) == 200
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected)):
        np.testing.assert_array_equal(a, b)
    lines, whole = read_metrics(tmp_path), read_metrics(uninterrupted)
    for name in ("step", "loss", "gradient_norm", "learning_rate"):
        assert [line[name] for line in lines] == [line[name] for line in whole]
    assert [line["step"] for line in lines] == list(range(5, 201, 5))
    snapshots = sorted((uninterrupted / "averages").iterdir())
    assert [int(path.stem) for path in snapshots] == [40, 80, 120, 160, 200]
    assert all((tmp_path / "averages" / path.name).read_bytes() == path.read_bytes() for path in snapshots)
    assert len((tmp_path / "config_history.jsonl").read_text().splitlines()) == 3


def test_a_complete_run_says_so_and_writes_nothing(uninterrupted, environment):
    files = lambda: {p: p.stat().st_mtime_ns for p in uninterrupted.rglob("*") if p.is_file()}
    before = files()
    done = subprocess.run(command(uninterrupted, *OVERRIDES), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "complete" in done.stdout
    assert files() == before


def test_sample_mode_writes_and_reproduces(uninterrupted, environment):
    sample = ["--mode", "sample", "--config.sampling.num_samples=11", *OVERRIDES]
    run = lambda *more: subprocess.run(
        command(uninterrupted, *sample, *more), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    folder = uninterrupted / "samples" / "ancestral-4-seed0"
    assert run().returncode == 0
    first = np.load(folder / "samples.npz")["samples"]
    assert first.shape == (11, 8, 8, 1)
    assert first.dtype == np.uint8
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["evaluations"] == 5
    assert settings["step"] == 200
    assert "already" in run().stdout
    refused = run("--config.sampling.batch_size=4")
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert run("--config.sampling.batch_size=4", "--overwrite").returncode == 0
    np.testing.assert_allclose(np.load(folder / "samples.npz")["samples"].astype(int), first, atol=1)


def test_a_call_is_shortened_to_end_on_every_boundary(tmp_path):
    """steps_per_call 5 with logs and checkpoints every 4, grids every 6 and 12 steps in all; on 8 devices."""
    changes = {"training__steps_per_call": 5, "logging__samples_every": 6, "checkpoint__every": 4}
    state = train(build(tiny_config(**changes)), Workdir(tmp_path), show=False)
    assert int(state.step) == 12
    assert [line["step"] for line in read_metrics(tmp_path)] == [4, 8, 12]
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [8, 12]
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step_00000006.png", "step_00000012.png"]
    assert any((tmp_path / "tensorboard").iterdir())


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    """The first update breaks the parameters, the second loss shows it: neither is logged nor kept."""
    experiment = build(tiny_config(optimizer__learning_rate=1e30, optimizer__warmup=0, checkpoint__every=2))
    experiment = dataclasses.replace(experiment, strategy=Pmap(jax.local_devices()[:1]))
    with pytest.raises(NonFiniteLoss, match=r"at step 2, on examples 16 to 31 .* lower optimizer\.learning_rate"):
        train(experiment, Workdir(tmp_path), show=False)
    assert not (tmp_path / "checkpoints").exists()
    assert read_metrics(tmp_path) == []


def test_exit_code_3_of_a_loss_that_is_not_finite(tmp_path, monkeypatch, capsys):
    def broken(*args, **options):
        raise NonFiniteLoss("the loss is nan at step 7")

    monkeypatch.setattr(modes, "train_loop", broken)
    assert modes.train(tiny_config(), Workdir(tmp_path)) == 3
    assert "step 7" in capsys.readouterr().err
