"""Times the training step: the very function that training compiles, on one device, over random images.

    python benchmarks/train_step.py --config configs/digits.py --batch 128 --dtype float32 --steps-per-call 1 10
    python benchmarks/train_step.py --size cifar10 --batch 8 --repeats 2 --profile --json out.json
    python benchmarks/train_step.py --size cifar10 --batch 8 --repeats 2 --grid --json out.json

One row per --steps-per-call K, all in one process, the persistent compilation cache off:
  trace_s, compile_s     tracing with lowering, and XLA's compilation, once each
  step_ms_min, _median   one update: a call's time, its batches already on the device, divided by K
  images_per_s           from the median
  gflop                  one update, by XLA's count before optimisation, its convolutions as sums over taps; the body of
                         the loop over K counts once, and what rematerialisation computes again, again
  matmul_gflops          rate of square matrix products in the compute dtype, measured right after the row
  efficiency             gflop / (step_ms_min * matmul_gflops): 1 is a step as fast as its FLOPs in matrix products, of
                         which Winograd's form of a convolution takes fewer
  temp_mb                what the compiled call allocates besides its state and batches, by XLA's own account
  host_peak_mb           peak memory of the PROCESS so far, compilation included: for an honest figure give each
                         configuration (each K too) a process of its own. device_peak_mb likewise, where counted.
--grid does give each one its own, for both dtypes, K = 1 and 5 and every choice of training.remat, less where --dtype,
--steps-per-call or --remat choose among them. --profile adds a table of the ten operations that took the most time in
one call of the last row. Exit codes: 0 done, 2 bad usage or config; --grid also ends with that of a row that failed.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.operations import largest_operations
from score_sde.config import Config, choices
from score_sde.devices import memory
from score_sde.errors import UsageError, require

GRID_STEPS = [1, 5]


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps-per-call", type=int, nargs="+", metavar="K", help="updates per call (1; --grid: 1 5)")
    parser.add_argument("--remat", choices=choices("training.remat"), help="training.remat (the config's)")
    parser.add_argument("--grid", action="store_true", help="a row, and a process, for every configuration")
    parser.add_argument("--profile", action="store_true", help="add the ten operations that take the most time")
    arguments = parser.parse_args(argv[1:])
    tables: dict[str, list[common.Row]] = {}
    try:
        steps = arguments.steps_per_call or [1]
        require(min(steps) >= 1, f"--steps-per-call {steps} must be at least 1")
        require(not (arguments.grid and arguments.profile), "--profile is of one row: leave --grid away")
        fields = {"training.batch_size": arguments.batch, "training.remat": arguments.remat}
        config = common.make_config(arguments, fields)
        if arguments.grid:
            rows = grid(argv[0], arguments)
        else:
            rows, tables = measure(config, steps, arguments.repeats, arguments.profile)
    except UsageError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    common.report("training step", argv[0], argv[1:], config, rows, arguments.json, **tables)
    return 0


def grid(script: str, arguments: argparse.Namespace) -> list[common.Row]:
    """The rows of every configuration, each measured by this program in a process of its own, one after the other."""
    rows = []
    dtypes = [arguments.dtype] if arguments.dtype else choices("training.compute_dtype")
    remats = [arguments.remat] if arguments.remat else choices("training.remat")
    shared = ["--config", arguments.config, "--repeats", str(arguments.repeats)]
    shared += [text for field in arguments.set for text in ("--set", field)]
    for name in ("size", "batch"):
        value = getattr(arguments, name)
        shared += [] if value is None else [f"--{name}", str(value)]
    with tempfile.TemporaryDirectory() as folder:
        for dtype, k, remat in itertools.product(dtypes, arguments.steps_per_call or GRID_STEPS, remats):
            path = pathlib.Path(folder, f"{len(rows)}.json")
            own = ["--dtype", dtype, "--steps-per-call", str(k), "--remat", remat, "--json", str(path)]
            subprocess.run([sys.executable, script, *shared, *own], check=True)
            rows += json.loads(path.read_text())["rows"]
    return rows


def measure(
    config: Config, steps: Sequence[int], repeats: int, profile: bool
) -> tuple[list[common.Row], dict[str, list[common.Row]]]:
    """A row for every number of steps per call, and further tables."""
    experiment = common.build(config)

    import jax

    from score_sde.devices.platform import Platform
    from score_sde.training.step import make_train_step

    step, frozen = common.training_program(experiment), experiment.frozen_params
    # As for a TPU, convolutions are sums over taps; and no block is counted once for several.
    system: Any = experiment.system
    unrolled = {"scan_blocks": False} if hasattr(system, "scan_blocks") else {}
    direct = dataclasses.replace(system, platform=Platform("tpu"), **unrolled)
    loss = dataclasses.replace(experiment, system=direct).loss
    counted: Any = jax.jit(make_train_step(loss, experiment.optimizers, experiment.averages))
    size, dtype = config.training.batch_size, config.training.compute_dtype
    state, rows, tables = None, [], {}
    for k in steps:
        batches = jax.device_put(experiment.stream.batches(0, size, k))
        # Compiled before there is a state, and its leavings handed back: the two peaks do not add up.
        program = common.compile_program(step, experiment.abstract_state(), frozen, batches)
        flops = counted.lower(experiment.abstract_state(), frozen, batches).cost_analysis()["flops"]
        memory.release()
        state = experiment.initial_state() if state is None else state
        state, seconds = _time(program.call, state, frozen, batches, repeats)
        low, median = common.milliseconds([s / k for s in seconds])
        peaks, rate = common.peak_memory(), common.matmul_rate(dtype)
        rows.append(
            {
                "batch": size,
                "dtype": dtype,
                "steps_per_call": k,
                "remat": config.training.remat,
                "trace_s": program.trace_s,
                "compile_s": program.compile_s,
                "step_ms_min": low,
                "step_ms_median": median,
                "images_per_s": 1e3 * size / median,
                "gflop": flops / 1e9,
                "matmul_gflops": rate / 1e9,
                "efficiency": flops / (1e-3 * low * rate),
                "temp_mb": program.call.memory_analysis().temp_size_in_bytes / 1e6,
                **peaks,
            }
        )
        if profile and k == steps[-1]:
            call = lambda state=state, batches=batches, program=program: program.call(state, frozen, batches)
            state, tables["operations"] = largest_operations(call, program.call)
    return rows, tables


def _time(call: Any, state: Any, frozen: Any, batches: Any, repeats: int) -> tuple[Any, list[float]]:
    """The state after a warm-up and `repeats` calls, and the seconds of each."""
    seconds = []
    for _ in range(repeats + 1):
        result = common.timed(lambda state=state: call(state, frozen, batches))
        state, _ = result.value
        seconds.append(result.seconds)
    return state, seconds[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
