"""Times the training step: the very function that training compiles, on one device, over random images.

    python benchmarks/train_step.py --config configs/digits.py --batch 128 --dtype float32 --steps-per-call 1 10
    python benchmarks/train_step.py --size cifar10 --batch 8 --repeats 2 --json out.json

One row per --steps-per-call K, all in one process, the persistent compilation cache off:
  trace_s, compile_s     tracing with lowering, and XLA's compilation, once each
  step_ms_min, _median   one update: a call's time, its batches already on the device, divided by K
  images_per_s           from the median
  gflop                  one update, by XLA's count before optimisation; it counts the body of the loop over K once
  matmul_gflops          rate of square matrix products in the compute dtype, measured right after the row
  efficiency             gflop / (step_ms_min * matmul_gflops): 1 is a step as fast as its FLOPs in matrix products
  host_peak_mb           peak memory of the PROCESS so far, compilation included: for an honest figure give each
                         configuration (each K too) a process of its own. device_peak_mb likewise, where counted.
Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import Config
from score_sde.errors import UsageError, require


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--steps-per-call", type=int, nargs="+", default=[1], metavar="K", help="updates per call (1)")
    arguments = parser.parse_args(argv[1:])
    try:
        require(min(arguments.steps_per_call) >= 1, f"--steps-per-call {arguments.steps_per_call} must be at least 1")
        config = common.make_config(arguments, {"training.batch_size": arguments.batch})
        rows = measure(config, arguments)
    except UsageError as error:
        print(f"train_step: {error}", file=sys.stderr)
        return 2
    common.report("training step", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def measure(config: Config, arguments: argparse.Namespace) -> list[common.Row]:
    """A row for every number of steps per call."""
    experiment = common.build(config)

    import jax

    from score_sde.training.step import make_train_step

    step = jax.jit(make_train_step(experiment.loss, experiment.optimizer, experiment.averages), donate_argnums=0)
    size, dtype = config.training.batch_size, config.training.compute_dtype
    state, rows = experiment.initial_state(), []
    for k in arguments.steps_per_call:
        batches = jax.device_put(experiment.stream.batches(0, size, k))
        program = common.compile_program(step, state, batches)
        state, seconds = _time(program.call, state, batches, arguments.repeats)
        low, median = common.milliseconds([s / k for s in seconds])
        rate = common.matmul_rate(dtype)
        rows.append(
            {
                "batch": size,
                "dtype": dtype,
                "steps_per_call": k,
                "trace_s": program.trace_s,
                "compile_s": program.compile_s,
                "step_ms_min": low,
                "step_ms_median": median,
                "images_per_s": 1e3 * size / median,
                "gflop": program.flops / 1e9,
                "matmul_gflops": rate / 1e9,
                "efficiency": program.flops / (1e-3 * low * rate),
                **common.peak_memory(),
            }
        )
    return rows


def _time(call: Any, state: Any, batches: Any, repeats: int) -> tuple[Any, list[float]]:
    """The state after a warm-up and `repeats` calls, and the seconds of each."""
    seconds = []
    for _ in range(repeats + 1):
        result = common.timed(lambda state=state: call(state, batches))
        state, _ = result.value
        seconds.append(result.seconds)
    return state, seconds[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv))
