"""Samples of a score of latents and of one of pixels after the same CPU time, against held-out pictures.

    python launch.py --config configs/mnist_autoencoder.py --config.data.path=mnist.npz
    python benchmarks/latent.py --data mnist.npz --minutes 20 --json latent.json --picture latent.png

Trains both side by side, one core each, for --minutes of CPU time (budget.py), into runs/<config>; --minutes 0 measures
what is there. Then draws --count samples of either, by its own solver and by `auto` at as many evaluations, and tells
of every set its Fréchet distance to the held-out pictures and both 1-NN accuracies, in pixels and in the means of the
autoencoder's latents over their scale. The held-out pictures are split in two, by a fixed choice: --count that are
sets themselves, as they are, reconstructed from the latents' means, and decoded from draws of q(z | x), which is the
floor of all that the decoder makes; and the others, which everything is measured against. --picture: the first of
every set. Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.budget import side_by_side
from benchmarks.few_steps import SHOWN, save
from score_sde.errors import UsageError, require

AT_ONCE = 250


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", default="configs/mnist_latent.py", help="config of the latent score (%(default)s)")
    parser.add_argument("--pixels", default="configs/mnist_pixels.py", help="config of the other (%(default)s)")
    parser.add_argument("--autoencoder", default="runs/mnist_autoencoder", help="run of the autoencoder (%(default)s)")
    parser.add_argument("--data", required=True, help="data.path")
    parser.add_argument("--runs", default="runs", help="where runs are (%(default)s)")
    parser.add_argument("--minutes", type=float, required=True, help="of CPU time to train either; 0 for none")
    parser.add_argument("--count", type=int, default=1000, help="samples of each (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the rows, with machine, versions and command")
    parser.add_argument("--picture", help="a PNG file for the first of each set")
    arguments = parser.parse_args(argv[1:])
    runs = {name: f"{arguments.runs}/{pathlib.Path(getattr(arguments, name)).stem}" for name in ("latent", "pixels")}
    try:
        require(arguments.count > 1, f"--count {arguments.count} must be at least 2")
        if arguments.minutes:
            train(arguments, runs)
        config, rows, pictures, trained = measured(arguments, runs)
    except UsageError as error:
        print(f"latent: {error}", file=sys.stderr)
        return 2
    common.report("latents and pixels", argv[0], argv[1:], config, rows, arguments.json, runs=trained)
    if arguments.picture:
        save(arguments.picture, pictures)
    return 0


def train(arguments: argparse.Namespace, runs: dict[str, str]) -> None:
    """Both runs, until their time is over."""
    for run in runs.values():
        require(not pathlib.Path(run).exists(), f"{run} is there: --minutes 0 measures it, or name another --runs")
    common_flags = [f"--config.data.path={arguments.data}", "--config.training.num_steps=10000000"]
    common_flags.append("--config.checkpoint.every=200")  # what a crash would lose
    own = {"latent": [f"--config.frozen.autoencoder={arguments.autoencoder}"], "pixels": []}
    flags = {runs[name]: ["--config", getattr(arguments, name), *common_flags, *own[name]] for name in runs}
    side_by_side(flags, 60 * arguments.minutes)


def measured(
    arguments: argparse.Namespace, runs: dict[str, str]
) -> tuple[Any, list[common.Row], dict[str, np.ndarray], list[common.Row]]:
    """The latent run's config, a row of figures of every set, the first pictures of each, and a row of each run."""
    from score_sde.cli.modes import start_jax
    from score_sde.data.sources import gather, some

    start_jax()
    trained = {name: restored(run) for name, run in runs.items()}
    experiment, _, _ = trained["latent"]
    data, space = experiment.data, Space(experiment)
    order = np.random.default_rng(0).permutation(len(data.held_out))
    own, others = (gather(data.held_out, part) for part in np.split(order, [arguments.count]))
    means, draws = space.decoded(own)
    sets: dict[str, Any] = {
        "held-out": own,
        "training": some(data.train, arguments.count),
        "reconstructions": means,
        "decoded draws": draws,
    }
    features = {"pixel": pixels(others), "latent": space(others)}
    rows, pictures = [], {}
    for name, x, told in (*((name, x, {}) for name, x in sets.items()), *drawn(trained, arguments.count)):
        of = {"pixel": pixels(x), "latent": space(x)}
        rows.append({"set": name, **row_of(told), **figures(of, features)})
        pictures[name] = x[:SHOWN]
        print(rows[-1], file=sys.stderr, flush=True)
    config = experiment.config
    config.data.path = pathlib.Path(config.data.path).name
    return config, rows, pictures, [updates_of(name, *found) for name, found in trained.items()]


def restored(run: str) -> tuple[Any, Any, int]:
    """The experiment of a run, its parameters, and after how many updates."""
    from score_sde.experiment import build
    from score_sde.experiment.frozen import experiment_of
    from score_sde.storage.checkpoint import Checkpoints
    from score_sde.storage.workdir import Workdir

    experiment = experiment_of("the run", run, build)
    with closing(Checkpoints(Workdir(run).checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    return experiment, experiment.weights(state), meta["step"]


def updates_of(name: str, experiment: Any, params: Any, step: int) -> common.Row:
    """What a run was."""
    import jax

    sizes = [leaf.size for leaf in jax.tree.leaves(experiment.abstract_params())]
    batch = experiment.config.training.batch_size
    return {"run": name, "updates": step, "batch": batch, "shape": experiment.system.shape, "parameters": sum(sizes)}


class Space:
    """The latents of a run's frozen autoencoder: pictures [N, H, W, C] -> means [N, D] over the latents' scale."""

    def __init__(self, experiment: Any) -> None:
        import jax

        from score_sde.rng import Purpose, child, example_keys, normal, root_key
        from score_sde.systems.autoencoder import at

        system, kind, coder = experiment.system, experiment.kind, experiment.system.coder
        autoencoder, root = system.autoencoder, root_key(0)

        def means(stored: Any, position: Any) -> Any:
            seen = kind.encode(example_keys(root, position), stored, training=False)
            return autoencoder.encode(coder, seen)[0] / system.scale

        def decoded(stored: Any, position: Any) -> Any:
            keys = example_keys(root, position)
            law = autoencoder.encode(coder, kind.encode(keys, stored, training=False))
            z = at(law, normal(child(keys, Purpose.LATENT), law[0].shape[1:]))
            return tuple(kind.decode(autoencoder.decode(coder, latent)[0]) for latent in (law[0], z))

        self._means, self._decoded = jax.jit(means), jax.jit(decoded)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        found = np.concatenate([np.asarray(part) for part in self._by_parts(self._means, x)])
        return found.reshape(len(x), -1).astype(np.float64)

    def decoded(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The decoder's means of the mean of q(z | x), and of a draw of it, as bytes."""
        means, draws = zip(*self._by_parts(self._decoded, x))
        return np.concatenate(means), np.concatenate(draws)

    def _by_parts(self, compute: Any, x: np.ndarray) -> Iterator[Any]:
        from score_sde.rng import positions

        for first in range(0, len(x), AT_ONCE):
            part = x[first : first + AT_ONCE]
            yield compute(part, positions(first, len(part)))


def pixels(x: np.ndarray) -> np.ndarray:
    """Pictures as `--mode evaluate` with features=pixels has them."""
    from score_sde.evaluation.two_sample import to_vectors

    return to_vectors(x)


def figures(sets: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> common.Row:
    """In each of the features: the Fréchet distance with its error, the 1-NN accuracies, precision and recall."""
    from score_sde.evaluation.frechet import frechet
    from score_sde.evaluation.neighbours import neighbour_figures

    found: common.Row = {}
    for name, x in sets.items():
        distance, error = frechet(x, others[name])
        row = {"frechet": distance, "frechet_error": error, **neighbour_figures(x, others[name])}
        found |= {f"{name}_{figure}": value for figure, value in row.items()}
    return found


def drawn(trained: dict[str, Any], count: int) -> Iterator[tuple[str, np.ndarray, common.Row]]:
    """Samples of every run, by its solver and by `auto`: what they are called, they, and what they cost."""
    from score_sde.experiment.generation import Generator
    from score_sde.reporting.rows import evaluations, variant

    for name, (experiment, params, _) in trained.items():
        experiment.config.sampling.batch_size = min(AT_ONCE, count)
        budget = evaluations(experiment)
        automatic = variant(experiment, "auto", num_steps=budget)
        assert automatic is not None
        for solver, own in ((experiment.config.sampling.solver, experiment), ("auto", automatic)):
            found = Generator(own)(params, count, show=False)
            seconds = None if len(found.seconds) < 2 else float(np.mean(found.seconds[1:])) * count / AT_ONCE
            yield f"{name}, {solver}", found.x, {"evaluations": found.evaluations, "seconds": seconds}


def row_of(told: common.Row) -> common.Row:
    """With the same keys for every set."""
    return {"evaluations": told.get("evaluations"), "seconds": told.get("seconds")}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
