"""Variational diffusion with learned ends of its noise schedule against fixed ones: MNIST at 14x14, bits per dimension.

    python benchmarks/vdm.py --data mnist.npz --updates 1000 --json vdm.json

Trains configs/digits_vdm.py with the fields of FIELDS on means of 2x2 pixels, rounded to bytes, with vdm.learned=ends
and =none: side by side, one core each, of the same first network, batches and noise; --updates 0 measures what is
there. Of --count held-out pictures (a fixed choice) by --draws of t and noise each, the same for both:
  bits, by_draws, by_images    the bound per dimension, and the half widths of its 95 % intervals over draws, and images
  less, less_by_images         by how much it is below that of fixed ends, picture by picture
  recon, klz, diffusion        its terms in bits per dimension; gamma_0, gamma_1: the ends that were learned
and a row "histogram": each pixel by its own histogram over training pictures, one more of each byte. Exit codes: 0
done, 2 bad usage or config.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from benchmarks.budget import side_by_side
from benchmarks.latent import restored
from score_sde.errors import UsageError, require

FIELDS = (
    "data.name=array", "data.image_size=14", "network.nf=16", "network.attn_resolutions=(7,)", "training.batch_size=64",
    "sampling.num_samples=16", "sampling.batch_size=16",
)  # fmt: skip
LEARNED = ("ends", "none")
BYTES = 256


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an .npz file of x_train and x_test, uint8 [N, 28, 28]")
    parser.add_argument("--config", default="configs/digits_vdm.py", help="(%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="any field of both")
    parser.add_argument("--runs", default="runs", help="where runs are, and the smaller pictures (%(default)s)")
    parser.add_argument("--updates", type=int, required=True, help="of either; 0 for none")
    parser.add_argument("--count", type=int, default=1000, help="held-out pictures (%(default)s)")
    parser.add_argument("--draws", type=int, default=32, help="of t and noise for each (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="a file for the rows, with machine, versions and command")
    arguments = parser.parse_args(argv[1:])
    runs = {learned: f"{arguments.runs}/mnist_vdm_{learned}" for learned in LEARNED}
    try:
        require(arguments.draws > 1, f"--draws {arguments.draws} must be at least 2")
        if arguments.updates:
            train(arguments, runs)
        config, rows = measured(arguments, runs)
    except UsageError as error:
        print(f"vdm: {error}", file=sys.stderr)
        return 2
    common.report("learned and fixed ends", argv[0], argv[1:], config, rows, arguments.json)
    return 0


def train(arguments: argparse.Namespace, runs: dict[str, str]) -> None:
    """Both runs, of so many updates."""
    for run in runs.values():
        require(not pathlib.Path(run).exists(), f"{run} is there: --updates 0 measures it, or name another --runs")
    path = pathlib.Path(arguments.runs).absolute() / "mnist_14.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with np.load(arguments.data) as whole:
        np.savez(path, x_train=halved(whole["x_train"]), x_test=halved(whole["x_test"]))
    fields = [*FIELDS, *arguments.set, f"data.path={path}", f"training.num_steps={arguments.updates}"]
    flags = ["--config", arguments.config, *(f"--config.{field}" for field in fields)]
    side_by_side({run: [*flags, f"--config.vdm.learned={learned}"] for learned, run in runs.items()})


def halved(x: np.ndarray) -> np.ndarray:
    """Bytes [N, H, W] -> [N, H / 2, W / 2], the means of 2x2 pixels, rounded with halves upwards."""
    n, height, width = x.shape
    sums = x.reshape(n, height // 2, 2, width // 2, 2).sum((2, 4), dtype=np.uint16)
    return ((sums + 2) // 4).astype(np.uint8)


def measured(arguments: argparse.Namespace, runs: dict[str, str]) -> tuple[Any, list[common.Row]]:
    """The config of learned ends, and the rows."""
    from score_sde.cli.modes import start_jax
    from score_sde.data.sources import chosen

    start_jax()
    trained = {learned: restored(run) for learned, run in runs.items()}
    data = trained["ends"][0].data
    numbers = chosen(len(data.held_out), arguments.count)
    columns = {}
    for learned, (experiment, params, _) in trained.items():
        experiment.config.likelihood.update(dequantizations=arguments.draws)
        columns[learned] = bounds(experiment, params, numbers)
    fixed = columns["none"]["bits_per_dim"]
    rows = [row(name, *found, columns[name], fixed, arguments.draws) for name, found in trained.items()]
    bits = histogram_bits(np.asarray(data.train[:]), np.asarray(data.held_out[numbers]))
    rows.append(dict.fromkeys(rows[0]) | {"learned": "histogram", "bits": bits.mean(), "by_images": half_width(bits)})
    config = trained["ends"][0].config
    config.data.path = pathlib.Path(config.data.path).name
    return config, rows


def bounds(experiment: Any, params: Any, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The bound of every picture with these numbers, its error and its terms, by column."""
    from score_sde.evaluation.likelihoods import own_columns
    from score_sde.experiment.own_bound import OwnBound

    program = OwnBound(experiment)
    found = np.concatenate([*program(params, experiment.data.held_out, numbers)])
    return dict(zip(own_columns("bits", program.terms, False), found.T, strict=True))


def row(
    learned: str, experiment: Any, params: Any, step: int, columns: dict[str, np.ndarray], fixed: Any, draws: int
) -> common.Row:
    """Of one run."""
    from score_sde.evaluation.estimates import over_images

    bits, sde = columns["bits_per_dim"], experiment.system.sde(params)
    mean = over_images(bits, columns["standard_error"], draws - 1)
    nats = math.log(2) * math.prod(experiment.shape)
    less = fixed - bits
    return {
        "learned": learned,
        "updates": step,
        "bits": mean.mean,
        "by_draws": (mean.interval[1] - mean.interval[0]) / 2,
        "by_images": (mean.interval_images[1] - mean.interval_images[0]) / 2,
        "less": less.mean(),
        "less_by_images": half_width(less),
        **{term: columns[term].mean() / nats for term in ("recon", "klz", "diffusion")},
        **{f"gamma_{t}": -float(sde.log_snr(float(t))) for t in (0, 1)},
    }


def half_width(values: np.ndarray) -> float:
    """Of the 95 % interval of a mean over pictures [N]."""
    from score_sde.evaluation.estimates import over_images

    found = over_images(values, np.zeros(len(values)), 0)
    return (found.interval_images[1] - found.interval_images[0]) / 2


def histogram_bits(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Bits per dimension of every held-out picture [N, ...], each pixel by its histogram of train, one more of each."""
    train, held_out = (x.reshape(len(x), -1) for x in (train, held_out))
    counts = np.stack([np.bincount(pixel, minlength=BYTES) for pixel in train.T]) + 1
    shares = counts / counts.sum(1, keepdims=True)
    return -np.log2(shares[np.arange(held_out.shape[1]), held_out]).mean(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
