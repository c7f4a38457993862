"""Real processes of one run on this machine: started, watched, killed."""

import atexit
import importlib.metadata
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "SCORE_SDE_TEST_CONFIG"
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""XLA's options with which a program compiles four times faster, for those that run in milliseconds."""
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA aborts on an option that it does not know
    QUICK["xla_cpu_use_fusion_emitters"] = False
FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in QUICK.items())


def environment(cache: pathlib.Path, devices: int = 1, config: str = "tests/tiny.py") -> dict[str, str]:
    """So many virtual devices, and a compilation cache that all runs share: the second start compiles nothing.

    The first one compiles hastily, since what the tiny experiment computes takes no time. config: what `start` runs.
    """
    flags = f"--xla_force_host_platform_device_count={devices} {FLAGS}"
    ours = {"XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu", CONFIG: config}
    ours |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return os.environ | ours | {"PYTHONPATH": str(ROOT)}


def start(workdir: pathlib.Path, env: dict[str, str], *arguments: str, limit: int = 0) -> subprocess.Popen:
    """The experiment in a process of its own; limit: of the bytes of a file that it writes, 0 for none."""
    line = [sys.executable, "launch.py", "--config", env[CONFIG], "--workdir", str(workdir), *arguments]
    process = subprocess.Popen(line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if limit:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    atexit.register(close, process)
    return process


def close(process: subprocess.Popen) -> None:
    """End it if it still runs, wait for that, and close its pipes."""
    process.kill()
    process.communicate()


def free_address() -> str:
    """host:port of this machine on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def together(
    workdir: pathlib.Path, env: dict[str, str], *arguments: str, limits=(0, 0), own: Sequence[Sequence[str]] = ((), ())
) -> list[subprocess.Popen]:
    """The same as processes of one run, as many as there are limits; own: of each, behind the common arguments."""
    flags = ["--coordinator", free_address(), "--num_processes", str(len(limits))]
    one = lambda i: start(workdir, env, *flags, "--process_id", str(i), *arguments, *own[i], limit=limits[i])
    return [one(i) for i in range(len(limits))]


def end(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str]:
    """Its exit code and what it said on stderr."""
    try:
        _, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        close(process)
        raise
    return process.returncode, said


def lines(workdir: pathlib.Path) -> list[dict]:
    """What metrics.jsonl holds, a line cut off by a kill left out."""
    log = workdir / "metrics.jsonl"
    whole = log.read_text().split("\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in whole]


def wait_for(condition, processes: list[subprocess.Popen], timeout: float = 240) -> None:
    """Until the condition holds; fails where a process ends before."""
    until = time.monotonic() + timeout
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.002)


def kill(processes: list[subprocess.Popen], signum: int = signal.SIGKILL) -> None:
    """Send the signal to those that still run."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signum)
