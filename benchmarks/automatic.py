"""What sampling.solver='auto' is chosen by: candidate solvers on trained runs, by number of network evaluations.

    python benchmarks/automatic.py --run runs/digits --count 1000 --json benchmarks/results/auto_digits.json
    python benchmarks/automatic.py --run runs/mnist --count 256 --evaluations 20 50 --only auto "ancestral, log_snr"

Each candidate draws the same number of samples, from the run's newest checkpoint and its main average, with as many
evaluations; auto and ancestral with two seeds. Printed and written, per candidate and evaluations: the pixel Frechet
distance to the training pictures and its standard error, the 1-NN accuracies on samples and on data, and the share of
samples that have more grain than 99.5 % of the held-out pictures, with its error (score_sde/evaluation/grain.py).
Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.errors import UsageError, require
from score_sde.storage.workdir import Workdir, versions, write_json

CANDIDATES: dict[str, dict[str, Any]] = {
    "ancestral, log_snr": {"solver": "ancestral", "times": "log_snr"},
    "ancestral, quadratic": {"solver": "ancestral", "times": "quadratic"},
    "sde_adams_2, log_snr": {"solver": "sde_adams_2", "times": "log_snr"},
    "sde_adams_2, quadratic": {"solver": "sde_adams_2", "times": "quadratic"},
    "sde_adams_2, quadratic, churn 0.5": {"solver": "sde_adams_2", "times": "quadratic", "churn": 0.5},
    "sde_adams_3, quadratic": {"solver": "sde_adams_3", "times": "quadratic"},
    "dpm_solver_pp_2m_sde, log_snr": {"solver": "dpm_solver_pp_2m_sde", "times": "log_snr"},
    "dpm_solver_pp_2m_sde, karras": {"solver": "dpm_solver_pp_2m_sde", "times": "karras", "rho": 7.0},
    "sde_adams_2, log_snr, lower": {"solver": "sde_adams_2", "times": "log_snr", "lower_final": "always"},
    "sde_adams_2, quadratic, lower": {"solver": "sde_adams_2", "times": "quadratic", "lower_final": "always"},
    "sde_adams_2, quadratic, lower, churn 0.5": {
        "solver": "sde_adams_2", "times": "quadratic", "lower_final": "always", "churn": 0.5,
    },
    "sde_adams_2, quadratic, lower, churn 0.8": {
        "solver": "sde_adams_2", "times": "quadratic", "lower_final": "always", "churn": 0.8,
    },
    "sde_adams_2, log_snr, lower, churn 0.5": {
        "solver": "sde_adams_2", "times": "log_snr", "lower_final": "always", "churn": 0.5,
    },
    "sde_adams_2, log_snr, lower, churn 1.3": {
        "solver": "sde_adams_2", "times": "log_snr", "lower_final": "always", "churn": 1.3,
    },
    "sde_adams_2, karras 20, lower, churn 0.5": {
        "solver": "sde_adams_2", "times": "karras", "rho": 20.0, "lower_final": "always", "churn": 0.5,
    },
    "sde_adams_2, karras 7, lower, churn 0.5": {
        "solver": "sde_adams_2", "times": "karras", "rho": 7.0, "lower_final": "always", "churn": 0.5,
    },
    "sde_adams_2, karras 7, lower": {
        "solver": "sde_adams_2", "times": "karras", "rho": 7.0, "lower_final": "always",
    },
    "sde_adams_3, quadratic, lower, churn 0.5": {
        "solver": "sde_adams_3", "times": "quadratic", "lower_final": "always", "churn": 0.5,
    },
    "sde_adams_3, quadratic, lower, churn 0.8": {
        "solver": "sde_adams_3", "times": "quadratic", "lower_final": "always", "churn": 0.8,
    },
    "sde_adams_3, log_snr, lower, churn 0.5": {
        "solver": "sde_adams_3", "times": "log_snr", "lower_final": "always", "churn": 0.5,
    },
    "ddim, eta 1, quadratic": {"solver": "ddim", "eta": 1.0, "times": "quadratic"},
    "adams_3, quadratic": {"solver": "adams_3", "times": "quadratic"},
    "adams_3, karras 20": {"solver": "adams_3", "times": "karras", "rho": 20.0},
    "unipc_2, quadratic": {"solver": "unipc_2", "times": "quadratic"},
    "unipc_2, karras 20": {"solver": "unipc_2", "times": "karras", "rho": 20.0},
    "dpm_solver_pp_2m, log_snr": {"solver": "dpm_solver_pp_2m", "times": "log_snr"},
    "auto": {"solver": "auto"},
}  # fmt: skip
"""Fields of the `sampling` section; steps are one fewer than evaluations, for the final denoising."""
SEEDS = {"auto": (0, 1), "ancestral, log_snr": (0, 1)}


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the directory of a trained run with held-out pictures")
    parser.add_argument("--count", type=int, default=256, help="samples of each candidate (256)")
    parser.add_argument(
        "--evaluations", type=int, nargs="+", default=[10, 20, 50], help="network evaluations (10 20 50)"
    )
    parser.add_argument("--only", nargs="+", default=[""], help="candidates whose name contains one of these")
    parser.add_argument("--json", help="a file for the rows, with machine, versions and command")
    arguments = parser.parse_args(argv[1:])
    try:
        require(arguments.count > 1, f"--count {arguments.count} must be at least 2")
        rows = [*measured(Workdir(arguments.run), arguments)]
    except UsageError as error:
        print(f"automatic: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        about = {"command": shlex.join(argv), "versions": versions(), "machine": common.machine()}
        write_json(pathlib.Path(arguments.json), {**about, "rows": rows})
    return 0


def measured(workdir: Workdir, arguments: argparse.Namespace) -> Iterator[common.Row]:
    """A row per candidate and number of evaluations, printed as it is found."""
    from score_sde.cli.modes import COMPARED, start_jax, weights
    from score_sde.data.sources import some
    from score_sde.evaluation.grain import grainy
    from score_sde.evaluation.neighbours import Neighbours
    from score_sde.evaluation.two_sample import to_vectors
    from score_sde.experiment import build
    from score_sde.experiment.frozen import config_of
    from score_sde.experiment.generation import Generator
    from score_sde.reporting.measure import Yardstick
    from score_sde.reporting.rows import variant
    from score_sde.storage.checkpoint import Checkpoints

    start_jax()
    record = workdir.record()
    require(record is not None, f"--run {arguments.run} holds no run: train one first")
    assert record is not None
    experiment = build(config_of(record), record)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    params = weights(experiment, state, meta["position"], workdir)
    train, held_out = (some(part, COMPARED) for part in (experiment.data.train, experiment.data.held_out))
    yardstick = Yardstick(experiment.kind, train)
    print(f"{arguments.run}, step {meta['step']}, {experiment.config.sde.name}: {arguments.count} samples each")
    for name, fields in CANDIDATES.items():
        for n in arguments.evaluations if any(only in name for only in arguments.only) else ():
            for seed in SEEDS.get(name, (0,)):
                steps = n if fields["solver"] == "auto" else n - 1
                cell = variant(experiment, **fields, num_steps=steps, seed=seed)
                if cell is None:
                    continue
                drawn = Generator(cell)(params, arguments.count, show=False)
                frechet, error = yardstick(drawn.x)
                on_samples, on_data = Neighbours.of(to_vectors(drawn.x), to_vectors(train)).accuracies()
                share, of_share = grainy(drawn.x, held_out)
                row = {"sde": experiment.config.sde.name, "step": meta["step"], "name": name, "seed": seed}
                row |= {"evaluations": drawn.evaluations, "frechet": frechet, "frechet_error": error}
                row |= {
                    "accuracy_on_samples": on_samples,
                    "accuracy_on_data": on_data,
                    "grainy": share,
                    "grainy_error": of_share,
                }
                print(
                    f"{name:36s} {seed} {drawn.evaluations:5.0f}  frechet {frechet:8.3f} +-{error:.3f}"
                    f"  1-NN {on_samples:.3f} {on_data:.3f}  grainy {share:.3f} +-{of_share:.3f}",
                    flush=True,
                )
                yield row


if __name__ == "__main__":
    sys.exit(main(sys.argv))
