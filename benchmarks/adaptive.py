"""Times RK45 with a step size per sample, with one for the batch, and through scipy on the host, in turn on one device.

    python benchmarks/adaptive.py --run runs/digits --batch 64 --max 1.3
    python benchmarks/adaptive.py --batch 1 --repeats 9 --json out.json

All three solve the probability-flow ODE from the same prior draw to sampling.t_min at sampling.rtol and sampling.atol,
without the final denoising. The first two are one compiled program each. The third is scipy.integrate.solve_ivp on the
flattened batch in float64, one error norm for all of it, with a jitted drift: each evaluation takes the state to the
device and the slope back. A round runs each once. The persistent compilation cache is off. One row is for the config's
network, with a trained run's averaged weights (--run) or fresh ones, whose output is nearly zero; one for the exact
score of a Gaussian, which costs next to nothing, so that what remains is the solver's own cost.
  batch_evaluations, ...   network evaluations: of the batch's solve, of the samples' (mean and maximum), of scipy's
  trace_s, compile_s       of the per-sample program: tracing with lowering, and XLA's compilation, once each
  batch_ms_min, ...        the whole solve: minimum and median of the rounds
  per_sample_ratio         per-sample time / whole-batch time, of the minima; the goal is at most 1.3 at batch 64
  scipy_ratio              scipy's time / whole-batch time, of the minima
  scipy_per_sample_ratio   scipy's time / per-sample time, of the minima
Exit codes: 0 done, 1 per_sample_ratio of the network exceeds --max, 2 bad usage or config.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.config import Config
from score_sde.errors import UsageError, require

if TYPE_CHECKING:
    from score_sde.experiment import Experiment


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--run", type=pathlib.Path, help="a trained run's folder, of this config (fresh weights)")
    parser.add_argument("--max", type=float, metavar="RATIO", help="exit with 1 if the network's ratio is larger")
    arguments = parser.parse_args(argv[1:])
    try:
        require(arguments.max is None or arguments.max > 0, f"--max {arguments.max} must be positive")
        config = common.make_config(arguments, {"sampling.batch_size": arguments.batch, "sampling.solver": "rk45"})
        rows = measure(config, arguments.run, arguments.repeats)
    except UsageError as error:
        print(f"adaptive: {error}", file=sys.stderr)
        return 2
    common.report("adaptive", argv[0], argv[1:], config, rows, arguments.json)
    if arguments.max is not None and rows[0]["per_sample_ratio"] > arguments.max:
        print(f"adaptive: the ratio {rows[0]['per_sample_ratio']:.3f} exceeds --max {arguments.max}", file=sys.stderr)
        return 1
    return 0


def measure(config: Config, run: pathlib.Path | None, repeats: int) -> list[common.Row]:
    """One row for the network's score and one for an exact one."""
    experiment = common.build(config)

    import jax.numpy as jnp

    from score_sde.sde.analytic import mixture

    exact = mixture(jnp.ones(1), jnp.zeros((1, *experiment.shape)), jnp.full(1, 0.5)).score(experiment.sde)
    params = experiment.init_params() if run is None else _weights(experiment, run)
    return [
        {"score": "fresh" if run is None else "trained", **_row(experiment, experiment.score_of, params, repeats)},
        {"score": "exact", **_row(experiment, lambda params: exact, (), repeats)},
    ]


def _weights(experiment: "Experiment", run: pathlib.Path) -> Any:
    """The averaged weights of a run's newest checkpoint."""
    from contextlib import closing

    from score_sde.storage.checkpoint import Checkpoints

    require((run / "checkpoints").is_dir(), f"--run {run} holds no trained run: train one, or leave the flag out")
    with closing(Checkpoints(run / "checkpoints")) as checkpoints:
        return experiment.weights(experiment.restore(checkpoints)[0])


def _row(experiment: "Experiment", score_of: Callable[[Any], Any], params: Any, repeats: int) -> common.Row:
    """The three solves of one score."""
    import jax
    import numpy as np

    from score_sde.rng import example_keys, positions, root_key
    from score_sde.sde import reverse
    from score_sde.solvers import RK45

    c, sde = experiment.config.sampling, experiment.sde
    x = sde.prior_sample(example_keys(root_key(c.seed), positions(0, c.batch_size)), experiment.shape)
    drift = lambda params, x, t: reverse(sde, score_of(params), churn=0.0).drift(x, t)

    def program(per_sample: bool) -> common.Program:
        solver = RK45(c.rtol, c.atol, per_sample)
        solve = lambda params, x: solver.integrate(lambda x, t: drift(params, x, t), x, sde.T, c.t_min)
        return common.compile_program(jax.jit(solve), params, x)

    batch, per_sample = program(False), program(True)
    on_host = _host_solve(jax.jit(drift), params, x, (float(sde.T), c.t_min), c)
    ways = {
        "batch": lambda: batch.call(params, x),
        "per_sample": lambda: per_sample.call(params, x),
        "scipy": on_host,
    }
    counts = {name: np.asarray(common.timed(way).value[1]) for name, way in ways.items()}  # and the warm-up
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(common.timed(way).seconds)
    low = {name: min(times) for name, times in seconds.items()}
    row = {
        "batch": c.batch_size,
        "dtype": experiment.config.training.compute_dtype,
        "batch_evaluations": int(counts["batch"]),
        "per_sample_evaluations_mean": float(counts["per_sample"].mean()),
        "per_sample_evaluations_max": int(counts["per_sample"].max()),
        "scipy_evaluations": int(counts["scipy"]),
        "trace_s": per_sample.trace_s,
        "compile_s": per_sample.compile_s,
    }
    for name, times in seconds.items():
        row[f"{name}_ms_min"], row[f"{name}_ms_median"] = common.milliseconds(times)
    return row | {
        "per_sample_ratio": low["per_sample"] / low["batch"],
        "scipy_ratio": low["scipy"] / low["batch"],
        "scipy_per_sample_ratio": low["scipy"] / low["per_sample"],
    }


def _host_solve(
    drift: Any, params: Any, x: Any, interval: tuple[float, float], c: Any
) -> Callable[[], tuple[Any, int]]:
    """scipy's solve on the host: the endpoint, flattened, and the evaluations."""
    import jax.numpy as jnp
    import numpy as np
    from scipy.integrate import solve_ivp

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        state = jnp.asarray(y.reshape(x.shape), x.dtype)
        return np.asarray(drift(params, state, jnp.full(x.shape[:1], t, x.dtype)), np.float64).ravel()

    def solve() -> tuple[Any, int]:
        found = solve_ivp(slope, interval, np.ravel(x).astype(np.float64), method="RK45", rtol=c.rtol, atol=c.atol)
        return found.y[:, -1], found.nfev

    return solve


if __name__ == "__main__":
    sys.exit(main(sys.argv))
