"""Times the first opening of a folder of PNGs, and the second: with range, digest and counts, against an earlier build.

    git worktree add ../before <commit>
    python benchmarks/decoding.py --size cifar10 --baseline ../before --json out.json

--pictures random PNG files of the config's size are opened as a run opens them, by every checkout in turn, --repeats
times, each time in a process and a cache of its own. One row per opening:
  first, again           files are decoded into the cache; the cache is verified
  seconds, cpu_s         the least of all repeats, by the clock and by the processors; imports do not count
  baseline_s, ratio      the same of --baseline, and seconds / baseline_s: at most 1.05 is asked for
  baseline_cpu_s, cpu_ratio   likewise: what to go by where other programs run, too
Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import common
from benchmarks.data import write
from score_sde.config import Config
from score_sde.errors import UsageError, require

OPENINGS = """
import importlib.util, json, sys, tempfile, time
from score_sde.config import default
from score_sde.experiment import load_data
digest = lambda data: None
if importlib.util.find_spec("score_sde.data.identity"):
    from score_sde.data.identity import digest
import PIL.Image
PIL.Image.init()
config = default()
with tempfile.TemporaryDirectory() as cache:
    config.data.update(name="folder", cache=cache, **json.loads(sys.argv[1]))
    seconds = []
    for _ in range(2):
        start, cpu = time.perf_counter(), time.process_time()
        digest(load_data(config))
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
print(json.dumps(seconds))
"""
"""What is run in every checkout: seconds of both openings, by the clock and by the processors."""


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--pictures", type=int, default=10_000, help="PNG files (%(default)s)")
    parser.add_argument("--baseline", type=pathlib.Path, help="another checkout, to be compared with")
    arguments = parser.parse_args(argv[1:])
    try:
        require(arguments.pictures >= 1, f"--pictures {arguments.pictures} must be at least 1")
        other = arguments.baseline
        known = other is None or (other / "score_sde").is_dir()
        require(known, f"--baseline {other} is no checkout: make one by git worktree add")
        config = common.make_config(arguments, {})
        rows = measure(config, arguments)
    except UsageError as error:
        print(f"decoding: {error}", file=sys.stderr)
        return 2
    common.report("opening a folder", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def measure(config: Config, arguments: argparse.Namespace) -> list[common.Row]:
    """A row for every opening."""
    checkouts = [common.ROOT, *([arguments.baseline] if arguments.baseline else [])]
    shape = (config.data.image_size, config.data.image_size, config.data.num_channels)
    with tempfile.TemporaryDirectory() as place:
        write(pathlib.Path(place), np.random.RandomState(0).randint(0, 256, (arguments.pictures, *shape), np.uint8))
        data = {"path": place, "image_size": shape[0], "num_channels": shape[2]}
        found = [[openings(checkout, data) for checkout in checkouts] for _ in range(arguments.repeats)]
    least = np.array(found).min(0)  # [checkouts, openings, clocks]
    return [row(name, *least[:, i].tolist()) for i, name in enumerate(("first", "again"))]


def row(name: str, own: list[float], other: list[float] | None = None) -> common.Row:
    """One opening, by both clocks."""
    (seconds, cpu), (before, cpu_before) = own, other or (None, None)
    ratio = lambda a, b: None if b is None else a / b
    return {
        "opening": name,
        "seconds": seconds,
        "baseline_s": before,
        "ratio": ratio(seconds, before),
        "cpu_s": cpu,
        "baseline_cpu_s": cpu_before,
        "cpu_ratio": ratio(cpu, cpu_before),
    }


def openings(checkout: pathlib.Path, data: dict) -> list[list[float]]:
    """Seconds of the first opening and of the second [2, clocks], in a process of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, "-c", OPENINGS, json.dumps(data)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
