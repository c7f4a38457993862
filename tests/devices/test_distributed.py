"""Several processes of one run: how they are started, that they are one run, and the end of one of them."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
import pytest

from score_sde.cli.main import parse
from score_sde.cli.processes import cluster
from score_sde.devices.distributed import LOST_AFTER, Pulse, owns_what_it_sees
from score_sde.devices.parallel import Pmap
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from score_sde.training.snapshots import IMAGES
from tests import impatient
from tests.golden_files import relative_error
from tests.processes import CONFIG, ROOT, end, environment, kill, lines, together, wait_for
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")
DIGITS = ["launch.py", "--config", str(ROOT / "configs" / "digits.py")]
FLAGS = ["--coordinator", "host0:1234", "--num_processes", "2", "--process_id", "1"]


def test_flags_name_the_processes(monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert parse([*DIGITS, *FLAGS]).processes == ("host0:1234", 2, 1)
    assert parse([*DIGITS, *FLAGS]).connect_timeout == 300
    assert parse([*DIGITS, *FLAGS, "--connect_timeout", "9"]).connect_timeout == 9
    assert parse(DIGITS).processes is None
    assert parse([*DIGITS, "--distributed"]).processes == (None, None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FLAGS[:2], "--coordinator=host0:1234 .*together, or none"),
        (FLAGS[2:], "together, or none"),
        ([*FLAGS, "--nodistributed"], "together, or none"),
        (["--coordinator", "host0", *FLAGS[2:]], "--coordinator=host0 is not host:port"),
        (["--coordinator", ":12345", *FLAGS[2:]], "--coordinator=:12345 is not host:port"),
        (["--coordinator", "host0:65536", *FLAGS[2:]], "--coordinator=host0:65536 is not host:port"),
        (["--connect_timeout", "9"], "--connect_timeout=9 is for several processes"),
        ([*FLAGS, "--connect_timeout", "0"], "--connect_timeout=0 must be positive"),
        ([*FLAGS[:5], "2"], "--process_id=2 must lie between 0 and .* 1"),
        ([*FLAGS[:3], "0", *FLAGS[4:]], "--num_processes=0 must be at least 1"),
    ],
)
def test_flags_that_do_not_fit_are_refused(given, said):
    with pytest.raises(UsageError, match=said):
        parse([*DIGITS, *given])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, None),  # an allocation, but not started by srun
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4"}, "Slurm"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU pod"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
    ],
)
def test_clusters_are_known_by_their_environment(variables, name):
    assert cluster(variables) == name


@pytest.mark.parametrize(
    ("variables", "owns"),
    [
        ({}, False),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, True),  # a process for each node
        ({"SLURM_STEP_TASKS_PER_NODE": "1"}, True),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, False),  # one for each GPU
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)", "CUDA_VISIBLE_DEVICES": "0"}, True),  # the same, bound to it
        ({"SLURM_STEP_TASKS_PER_NODE": "1,8"}, False),
    ],
)
def test_under_slurm_a_process_uses_the_gpus_that_are_its_alone(variables, owns):
    assert owns_what_it_sees(variables) == owns


@pytest.mark.parametrize(("tasks", "gpus"), [("1(x2)", "all"), ("8(x2)", "0")])
def test_jax_is_told_of_the_gpus_before_it_looks_for_them(tasks, gpus):
    """A step of one process, as Slurm would describe it."""
    slurm = {"JOB_ID": "1", "STEP_NODELIST": "localhost", "NTASKS": "1", "PROCID": "0", "LOCALID": "0"}
    slurm |= {"STEP_TASKS_PER_NODE": tasks}
    env = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    env |= {f"SLURM_{name}": value for name, value in slurm.items()} | {"JAX_PLATFORMS": "cpu"}
    imports = "from jax._src.xla_bridge import CUDA_VISIBLE_DEVICES as visible"
    imports += "; from score_sde.devices.distributed import start"
    line = [sys.executable, "-c", f"{imports}; start(); print(visible.value)"]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.split() == [gpus], done.stderr


def test_a_cluster_whose_processes_do_not_come_is_told_in_a_sentence():
    """jax, left alone, ends by an abort with a stack."""
    slurm = {"JOB_ID": "1", "STEP_NODELIST": "localhost", "NTASKS": "2", "PROCID": "0", "LOCALID": "0"}
    env = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()} | {"JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-c", "from score_sde.devices.distributed import start; start(timeout=2)"]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("score-sde: the processes have not met within 2 s: start one on each host")
    assert done.stderr.count("\n") == 1


def test_a_process_whose_counter_stands_still_is_lost():
    pulse = Pulse(3, 0.0)
    counters = lambda n: {0: str(n), 1: str(min(n, 5)), 2: str(n)}
    for n in range(1, 60):
        silent = pulse.silent(counters(n), float(n))
        assert silent == (1 if n - 5 > LOST_AFTER else None)


def test_nobody_answers_means_process_0_is_lost():
    """Only our own counter moves."""
    pulse = Pulse(2, 0.0)
    assert pulse.silent({1: "1"}, LOST_AFTER / 2) is None
    assert pulse.silent({1: "2"}, LOST_AFTER + 1) == 0


AVERAGES = ("warmup", "power")
RUN = (
    "--config.training.steps_per_call=2",
    "--config.checkpoint.every=6",
    "--config.evaluation.every=8",
    "--config.evaluation.num_images=16",
    "--config.ema.averages=('warmup','power')",
    "--config.ema.snapshot_every=8",
)
LONG = "--config.training.num_steps=100000"
SHARDED = ("--config.parallel.strategy=sharded", "--config.parallel.fsdp=0")


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("cache"), config="tests/light.py")


class Ends(NamedTuple):
    """Three runs whose processes' ends are waited for at the same time: exit codes and last words."""

    workdir: pathlib.Path
    """Of the run whose process 1 was killed between saves."""
    without_1: tuple[int, str]
    """Of process 0 there."""
    without_0: tuple[int, str]
    """Of process 1 in a run without saves whose process 0 was killed."""
    disk_full: list[tuple[int, str]]
    """Of both processes of a sharded run, the second of which cannot write its part of a checkpoint."""


@pytest.fixture(scope="module")
def ends(tmp_path_factory, env):
    first, second, third = (tmp_path_factory.mktemp(name) for name in ("first", "second", "third"))
    sooner = env | {CONFIG: "tests/impatient.py"}
    processes = together(first, sooner, LONG, *RUN)
    others = together(second, sooner, LONG, *RUN, "--config.checkpoint.every=1000000")
    wait_for(lambda: len(list(first.glob("checkpoints/*/manifest.json"))) > 1, processes)
    kill(processes[1:])
    killed = time.monotonic()
    wait_for(lambda: len(lines(second)) > 1, others)
    kill(others[:1])
    full = together(third, env, LONG, *RUN, *SHARDED, limits=(0, 1000))
    survived = end(processes[0], timeout=60)
    assert time.monotonic() - killed < 60
    assert end(processes[1])[0] == end(others[0])[0] == -signal.SIGKILL
    return Ends(first, survived, end(others[1], timeout=60), [end(p, timeout=120) for p in full])


def test_the_end_of_a_process_ends_the_other(ends):
    code, said = ends.without_1
    assert code == 4, said
    assert f"process 1 of 2 is lost (no sign of life for {impatient.LOST_AFTER:.0f} s)" in said
    assert "resume from the last checkpoint" in said


def test_the_end_of_process_0_ends_the_other(ends):
    code, said = ends.without_0
    if code == -signal.SIGABRT:  # jax has noticed it first
        assert "another task died" in said
    else:
        assert code == 4, said
        assert "process 0 of 2 is lost" in said


def test_two_processes_are_one_run_through_loss_stop_and_resumption(tmp_path, ends, env):
    """One has been killed; then one is told to stop, and both do; then on to the end, sharded.

    In the end every logged loss, of training and held out, and every snapshot is that of one process.
    """
    workdir = ends.workdir
    before = max(line["step"] for line in lines(workdir))
    processes = together(workdir, env, LONG, *RUN)
    wait_for(lambda: max(line["step"] for line in lines(workdir)) > before + 4, processes)
    kill(processes[1:], signal.SIGTERM)
    ended = [end(p) for p in processes]
    assert [code for code, _ in ended] == [143, 143], ended
    total = 8 + max(int(p.parent.name) for p in workdir.glob("checkpoints/*/manifest.json"))

    ended = [end(p) for p in together(workdir, env, f"--config.training.num_steps={total}", *RUN, *SHARDED)]
    assert [code for code, _ in ended] == [0, 0], ended
    assert "resuming" in ended[0][1]
    assert "resuming" not in ended[1][1]
    assert list((workdir / "samples").glob("final_*.png"))

    again = together(workdir, env, f"--config.training.num_steps={total}", *RUN, *SHARDED)
    alone = build(tiny_config(training__num_steps=total, ema__averages=AVERAGES, ema__snapshot_every=8, **HELD_OUT))
    train(dataclasses.replace(alone, strategy=Pmap(jax.devices()[:1])), Workdir(tmp_path), show=False)
    assert [end(p) for p in again] == [(0, ""), (0, "")]
    ours, expected = lines(workdir), lines(tmp_path)
    assert [line["step"] for line in ours] == [line["step"] for line in expected]
    same = ("loss", "gradient_norm", "parameter_norm", "learning_rate", "held_out_loss_raw", "held_out_loss_warmup")
    for name in same:
        values = [[line[name] for line in log if name in line] for log in (ours, expected)]
        assert len(values[0]) > 2
        np.testing.assert_allclose(*values, rtol=1e-5)
    for snapshot in (tmp_path / "averages").glob("*.npz"):
        with np.load(workdir / "averages" / snapshot.name) as found, np.load(snapshot) as wanted:
            names = set(wanted) - {IMAGES}
            ours, theirs = (np.concatenate([np.ravel(arrays[name]) for name in names]) for arrays in (found, wanted))
            assert found[IMAGES] == wanted[IMAGES]
        assert relative_error(ours, theirs) < 1e-5


HELD_OUT = {"evaluation__every": 8, "evaluation__num_images": 16, "training__steps_per_call": 2}


def test_one_that_cannot_write_its_part_of_a_checkpoint_ends_both(ends):
    """Its disk is full; the other, which would wait for its part, says why it ends."""
    (code, said), (failed, why) = ends.disk_full
    assert failed == 5, why
    assert "checkpoints/6 cannot be written (File too large): there is no earlier one" in why
    assert code == 4, said
    assert "process 1 of 2 has ended (checkpoint" in said
    assert "File too large" in said
    assert "Traceback" not in said + why
