"""From the command to the end of the first training step, of this build and of another checkout, in turn.

git worktree add /tmp/before d35e9b7 && python benchmarks/start.py --baseline /tmp/before

Both trees have each a compilation cache of their own, which a run of each that is not timed fills. A start is timed
from the outside, until metrics.jsonl has its first line (logging.every=1), and then killed; `cpu_s` is what its threads
took of the processors by then, which other work on the machine changes less than the time on the clock.
"""

import argparse
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import common

FLAGS = ("--config.logging.every=1", "--config.logging.samples_every=0")


class Start(NamedTuple):
    """Seconds on the clock and of the processors until the first step is made."""

    wall_s: float
    cpu_s: float


def start(tree: pathlib.Path, cache: pathlib.Path, config: str) -> Start:
    """One start of the tree's own code in a new workdir; RuntimeError with its stderr where it ends before."""
    with tempfile.TemporaryDirectory() as folder:
        line = pathlib.Path(folder, "run", "metrics.jsonl")
        command = [sys.executable, "launch.py", "--config", config, "--workdir", str(line.parent), *FLAGS]
        environment = os.environ | {"PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": str(cache)}
        with pathlib.Path(folder, "stderr").open("w+") as said:
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            process = subprocess.Popen(command, cwd=tree, env=environment, stdout=said, stderr=said)
            while process.poll() is None and not (line.exists() and line.stat().st_size):
                time.sleep(0.005)
            wall = time.perf_counter() - began
            process.send_signal(signal.SIGKILL)
            process.wait()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if not line.exists():
                said.seek(0)
                raise RuntimeError(f"{tree} did not start:\n{said.read()}")
    return Start(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--baseline", type=pathlib.Path, required=True, help="a checkout of the code to compare with")
    p.add_argument("--config", default="configs/digits.py", help="a config that both have (%(default)s)")
    p.add_argument("--repeats", type=int, default=5, help="timed starts of each (%(default)s)")
    arguments = p.parse_args()
    trees = {"before": arguments.baseline.resolve(), "now": common.ROOT}
    with tempfile.TemporaryDirectory() as caches:
        found: dict[str, list[Start]] = {name: [] for name in trees}
        for repeat in range(1 + arguments.repeats):
            for name, tree in trees.items():
                timed = start(tree, pathlib.Path(caches, name), arguments.config)
                print(
                    f"{name:6} {timed.wall_s:6.2f} s, {timed.cpu_s:6.2f} s of the processors{' (first)' * (not repeat)}"
                )
                found[name] += [timed] if repeat else []
    for field in Start._fields:
        before, now = (statistics.median(getattr(s, field) for s in found[name]) for name in ("before", "now"))
        print(f"{field}: median {before:.2f} before, {now:.2f} now, {now / before:.3f} times")


if __name__ == "__main__":
    main()
