"""Several processes of one run: how they are started, that they are one run, and the end of one of them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from score_sde.distributed import LOST_AFTER, Pulse, owns_what_it_sees
from score_sde.errors import UsageError
from score_sde.main import cluster, parse
from tests.processes import ROOT, end, environment, kill, lines, start, together, wait_for

DIGITS = ["launch.py", "--config", str(ROOT / "configs" / "digits.py")]
FLAGS = ["--coordinator", "host0:1234", "--num_processes", "2", "--process_id", "1"]


def test_flags_name_the_processes(monkeypatch):
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    assert parse([*DIGITS, *FLAGS]).processes == ("host0:1234", 2, 1)
    assert parse(DIGITS).processes is None
    assert parse([*DIGITS, "--distributed"]).processes == (None, None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FLAGS[:2], "--coordinator=host0:1234 .*together, or none"),
        (FLAGS[2:], "together, or none"),
        ([*FLAGS, "--nodistributed"], "together, or none"),
        (["--coordinator", "host0", *FLAGS[2:]], "--coordinator=host0 has no port"),
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
    imports = "from jax._src.xla_bridge import CUDA_VISIBLE_DEVICES as visible; from score_sde.distributed import start"
    line = [sys.executable, "-c", f"{imports}; start(); print(visible.value)"]
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.split() == [gpus], done.stderr


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


RUN = ("--config.training.num_steps=40", "--config.training.steps_per_call=2", "--config.checkpoint.every=6")
LONG = ("--config.training.num_steps=100000", *RUN[1:])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    """The run of one process on four devices."""
    workdir = tmp_path_factory.mktemp("alone")
    code, said = end(start(workdir, environment(cache, 4), *RUN))
    assert code == 0, said
    return workdir


@pytest.mark.parametrize("victim", [0, 1])
def test_the_end_of_either_process_ends_the_other_between_saves(tmp_path, cache, victim):
    """No checkpoint is due: the survivor stands in the step itself."""
    processes = together(tmp_path, environment(cache, 2), *LONG, "--config.checkpoint.every=1000000")
    wait_for(lambda: len(lines(tmp_path)) > 1, processes)
    killed = time.monotonic()
    kill([processes[victim]])
    assert end(processes[victim])[0] == -signal.SIGKILL
    code, said = end(processes[1 - victim], timeout=60)
    assert time.monotonic() - killed < 60
    if code == -signal.SIGABRT:
        assert victim == 0  # which jax notices first
        assert "another task died" in said
    else:
        assert code == 4, said
        assert f"process {victim}" in said
        assert "resume from the last checkpoint" in said


def test_two_processes_are_one_run_through_loss_stop_and_resumption(tmp_path, cache, alone):
    """One is killed, and the other ends by itself; then one is told to stop, and both do; then on to the end.

    In the end the logged losses are those of one process on as many devices.
    """
    env = environment(cache, 2)
    processes = together(tmp_path, env, *LONG)
    wait_for(lambda: len(list(tmp_path.glob("checkpoints/*/manifest.json"))) > 1, processes)
    kill(processes[1:])
    killed = time.monotonic()
    assert end(processes[1])[0] == -signal.SIGKILL
    code, said = end(processes[0], timeout=60)
    assert time.monotonic() - killed < 60
    assert code == 4, said
    assert "process 1 of 2 is lost" in said
    assert "resume from the last checkpoint" in said

    before = len(lines(tmp_path))
    processes = together(tmp_path, env, *LONG)
    wait_for(lambda: len(lines(tmp_path)) > before + 1, processes)
    kill(processes[1:], signal.SIGTERM)
    assert [end(p)[0] for p in processes] == [143, 143]
    steps = max(int(p.parent.name) for p in tmp_path.glob("checkpoints/*/manifest.json"))

    finish = (f"--config.training.num_steps={steps + 4}", *RUN[1:])
    ended = [end(p) for p in together(tmp_path, env, *finish)]
    assert [code for code, _ in ended] == [0, 0], ended
    assert "resuming" in ended[0][1]
    assert "resuming" not in ended[1][1]
    ours = {line["step"]: line for line in lines(tmp_path)}
    common = [line for line in lines(alone) if line["step"] < steps]
    assert len(common) > 3
    assert [step for step in ours if step < steps] == [line["step"] for line in common]
    for name in ("loss", "gradient_norm", "parameter_norm", "learning_rate"):
        expected = [line[name] for line in common]
        np.testing.assert_allclose([ours[line["step"]][name] for line in common], expected, rtol=1e-5)
    assert list((tmp_path / "samples").glob("final_*.png"))
