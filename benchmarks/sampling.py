"""Times the whole sampler program against the bare network, interleaved, on one device, with fresh parameters.

    python benchmarks/sampling.py --config configs/digits.py --batch 500 --max 1.3
    python benchmarks/sampling.py --size cifar10 --batch 4 --num-steps 3 --repeats 3 --max 1.05 --json out.json
    python benchmarks/sampling.py --size cifar10 --batch 4 --num-steps 3 --guidance classifier_free --max 1.05
    python benchmarks/sampling.py --size cifar10 --batch 4 --num-steps 3 --guidance pigdm --max 3.0

The sampler is what generation compiles (all steps in one program) less the conversion to bytes. The bare network is its
jitted apply for x, label and sigma of the sampler's shapes, called in a Python loop, each call waited for. A round runs
the sampler once, and before and after it the network, half as often as the sampler evaluates it (10 times at most), so
that noise of the machine meets both. The persistent compilation cache is off.
  trace_s, compile_s       of the sampler: tracing with lowering, and XLA's compilation, once each
  evaluations              network evaluations per sample, as counted by the solver
  evaluation_ms_min, ...   the sampler's time divided by its evaluations: minimum and median of the rounds
  network_ms_min, ...      one call of the bare network: minimum and median of all calls
With --guidance classifier_free a network call is of twice the batch, and so is an evaluation; with the name of a
posterior score (means of 2x2 pixels are measured) it is a plain one, and an evaluation has its derivatives with it.
  ratio                    median over the rounds of (sampler per evaluation) / (the round's mean network call);
                           the goals are 1.05 at CIFAR-10 size and 1.3 for the tiny digits network
  host_peak_mb             peak memory of the PROCESS so far, compilation included: for an honest figure give each
                           configuration a process of its own. device_peak_mb likewise, where counted.
Exit codes: 0 done, 1 the ratio exceeds --max, 2 bad usage or config.
"""

import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import Config, choices
from score_sde.config.fields import MEASURING
from score_sde.errors import UsageError, require

METHODS = [name for name in choices("guidance.method") if name not in ("auto", "none")]
"""Posterior scores."""
MOST_CALLS = 10
"""Bare network calls before and after a run of the sampler, at most."""


class Rounds(NamedTuple):
    """Seconds of the sampler per round [R], of every bare call [R][calls], and the evaluations that a sample took."""

    sampler: list[float]
    network: list[list[float]]
    evaluations: int


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--num-steps", type=int, help="solver steps (the config's)")
    parser.add_argument(
        "--solver", choices=sorted({*choices("sampling.solver")} - {*MEASURING}), help="the config's if not given"
    )
    parser.add_argument("--corrector", choices=choices("sampling.corrector"), help="the config's if not given")
    parser.add_argument("--guidance", choices=["classifier_free", *METHODS], help="none if not given")
    parser.add_argument("--max", type=float, metavar="RATIO", help="exit with 1 if the ratio is larger")
    arguments = parser.parse_args(argv[1:])
    fields = {
        "sampling.batch_size": arguments.batch,
        "sampling.num_steps": arguments.num_steps,
        "sampling.solver": arguments.solver,
        "sampling.corrector": arguments.corrector,
    }
    if arguments.guidance == "classifier_free":
        fields |= {"data.condition": ("label",), "network.label_dropout": 0.1, "guidance.scale": 2.0}
    try:
        require(arguments.max is None or arguments.max > 0, f"--max {arguments.max} must be positive")
        config = common.make_config(arguments, fields)
        row = measure(config, arguments.repeats, arguments.guidance)
    except UsageError as error:
        print(f"sampling: {error}", file=sys.stderr)
        return 2
    common.report("sampling", argv[0], argv[1:], config, [row], arguments.json)
    if arguments.max is not None and row["ratio"] > arguments.max:
        print(f"sampling: the ratio {row['ratio']:.3f} exceeds --max {arguments.max}", file=sys.stderr)
        return 1
    return 0


def measure(config: Config, repeats: int, guidance: str | None) -> common.Row:
    """The benchmark's one row."""
    experiment = common.build(config)

    import jax
    import jax.numpy as jnp
    import numpy as np

    from score_sde.networks.remat import compiler_options
    from score_sde.rng import example_keys, positions, root_key
    from score_sde.systems.score import PART

    size, c, halves = config.sampling.batch_size, config.sampling, 1 + (guidance == "classifier_free")
    params = experiment.init_params()
    keys = example_keys(root_key(c.seed), positions(0, size))
    with tempfile.TemporaryDirectory() as folder:
        if guidance in METHODS:
            height, width, channels = experiment.shape
            np.savez(f"{folder}/y.npz", y=np.full((height // 2, width // 2, channels), 99.0), sigma_y=10.0)
            config.measurement.update(name="box", path=f"{folder}/y.npz")
            config.guidance.method = guidance
        condition = jax.tree.map(jnp.asarray, experiment.conditions(positions(0, size)))
        draw = jax.jit(experiment.draw, compiler_options=compiler_options(experiment.platform.name))
        sampler = common.compile_program(draw, params, keys, condition)
        config.measurement.path = config.measurement.path and "y.npz"  # as it is reported

    of = lambda a: jnp.concatenate([a] * halves)
    t = jnp.full((halves * size,), 0.5 * experiment.sde.T)
    x = of(experiment.sde.prior_sample(keys, experiment.shape))
    label, sigma = experiment.score_system.parametrization.label(experiment.sde, t), experiment.sde.sigma(t)
    bare, named = {"params": params[PART]}, {n: of(v) for n, v in condition.items() if n == "label"}
    apply = experiment.score_system.network.apply
    call = jax.jit(lambda *args: apply(*args, condition=named) if named else apply(*args))
    network = common.compile_program(call, bare, x, label, sigma)

    rounds = _alternate(
        lambda: sampler.call(params, keys, condition), lambda: network.call(bare, x, label, sigma), repeats, halves
    )
    per_evaluation = [s / rounds.evaluations for s in rounds.sampler]
    evaluation_low, evaluation_median = common.milliseconds(per_evaluation)
    network_low, network_median = common.milliseconds([s for calls in rounds.network for s in calls])
    return {
        "batch": size,
        "dtype": config.training.compute_dtype,
        "solver": c.solver,
        "guidance": guidance or "none",
        "corrector": c.corrector,
        "evaluations": rounds.evaluations,
        "trace_s": sampler.trace_s,
        "compile_s": sampler.compile_s,
        "evaluation_ms_min": evaluation_low,
        "evaluation_ms_median": evaluation_median,
        "network_ms_min": network_low,
        "network_ms_median": network_median,
        "ratio": statistics.median(s / statistics.mean(n) for s, n in zip(per_evaluation, rounds.network)),
        "images_per_s": size / statistics.median(rounds.sampler),
        **common.peak_memory(),
    }


def _alternate(sampler: Callable[[], Any], network: Callable[[], Any], repeats: int, halves: int) -> Rounds:
    """One warm-up of each, then `repeats` rounds of one sampler run between two runs of network calls.

    halves: evaluations that are one of the network's calls.
    """
    evaluations = int(common.timed(sampler).value.evaluations) // halves
    common.timed(network)
    rounds = Rounds([], [], evaluations)
    half = min((evaluations + 1) // 2, MOST_CALLS)
    for _ in range(repeats):
        before = [common.timed(network).seconds for _ in range(half)]
        rounds.sampler.append(common.timed(sampler).seconds)
        rounds.network.append(before + [common.timed(network).seconds for _ in range(half)])
    return rounds


if __name__ == "__main__":
    sys.exit(main(sys.argv))
