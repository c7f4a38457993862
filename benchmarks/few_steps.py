"""How good samples of few evaluations are: a teacher's solvers and its students, from the same noise.

    python benchmarks/few_steps.py --run runs/digits_edm --students runs/digits_cd runs/digits_reflow --count 1000
    python benchmarks/few_steps.py --run runs/digits_velocity --students runs/digits_distilled --picture few.png

Drawn from the run's newest checkpoint and its main average: `auto` at every number of evaluations, with the final
denoising and without it, and the run's own way of sampling; from every student what it can draw in 1, 2, 4 and 8. A
folder of phases stands for all of them. Printed and written, per row: the pixel Frechet distance to the training
pictures, the 1-NN accuracy, both accuracies of which it is the mean, precision and recall. --picture: the first samples
of every row side by side. Exit codes: 0 done, 2 bad usage or config.
"""

import argparse
import pathlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks import common
from score_sde.errors import UsageError, require
from score_sde.storage.workdir import Workdir, versions, write_json

SHOWN = 16
"""Samples of a row in the picture."""


class Row(NamedTuple):
    """A name, the experiment that draws, and its parameters."""

    name: str
    experiment: Any
    params: Any


def main(argv: Sequence[str]) -> int:
    """Run a command line (argv[0] is the program) and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the directory of a trained score")
    parser.add_argument("--students", nargs="*", default=[], help="runs that learnt from it, or like it")
    parser.add_argument("--evaluations", type=int, nargs="*", default=[1, 2, 4, 8], help="of auto (1 2 4 8)")
    parser.add_argument("--count", type=int, default=1000, help="samples of each row (1000)")
    parser.add_argument("--seed", type=int, default=0, help="sampling.seed (0)")
    parser.add_argument("--json", help="a file for the rows, with machine, versions and command")
    parser.add_argument("--picture", help="a PNG file for the first samples")
    arguments = parser.parse_args(argv[1:])
    try:
        require(arguments.count > 1, f"--count {arguments.count} must be at least 2")
        rows, pictures = measured(arguments)
    except UsageError as error:
        print(f"few_steps: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        about = {"command": shlex.join(argv), "versions": versions(), "machine": common.machine()}
        write_json(pathlib.Path(arguments.json), {**about, "rows": rows})
    if arguments.picture:
        save(arguments.picture, pictures)
    return 0


def measured(arguments: argparse.Namespace) -> tuple[list[common.Row], dict[str, Any]]:
    """A row of figures for everything that draws, printed as it is found; the first samples by name."""
    from score_sde.cli.modes import COMPARED, start_jax
    from score_sde.data.sources import some
    from score_sde.evaluation.two_sample import two_sample
    from score_sde.experiment.generation import Generator

    start_jax()
    rows, pictures = [], {}
    for name, experiment, params in drawing(arguments):
        drawn = Generator(experiment)(params, arguments.count, show=False)
        data = experiment.data
        figures = two_sample(drawn.x, *(some(part, COMPARED) for part in (data.train, data.held_out)))
        row = {"name": name, "evaluations": drawn.evaluations, **figures.__dict__}
        print(
            f"{name:40s} {drawn.evaluations:5.0f}  frechet {figures.frechet_distance:7.3f}"
            f"  1-NN {figures.nearest_neighbour_accuracy:.3f} ({figures.accuracy_on_samples:.3f},"
            f" {figures.accuracy_on_data:.3f})  precision {figures.precision:.3f} recall {figures.recall:.3f}",
            flush=True,
        )
        rows.append(row)
        pictures[f"{name}, {drawn.evaluations:.0f}"] = drawn.x[:SHOWN]
    return rows, pictures


def drawing(arguments: argparse.Namespace) -> Iterator[Row]:
    """The run's own sampler, auto, and the students."""
    from score_sde.cli.modes import weights
    from score_sde.experiment import build
    from score_sde.experiment.frozen import config_of
    from score_sde.reporting.rows import variant
    from score_sde.reporting.students import students
    from score_sde.storage.checkpoint import Checkpoints

    workdir = Workdir(arguments.run)
    record = workdir.record()
    require(record is not None, f"--run {arguments.run} holds no run: train one first")
    assert record is not None
    config = config_of(record)
    config.sampling.update(seed=arguments.seed, batch_size=min(250, arguments.count))
    config.report.students = tuple(arguments.students)
    experiment = build(config, record, training=False)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    params = weights(experiment, state, meta["position"], workdir)
    yield Row(f"{workdir.path.name}, as configured", experiment, params)
    for denoise in (False, True):
        for n in arguments.evaluations:
            cell = variant(experiment, "auto", num_steps=n, denoise=denoise)
            if cell is not None:
                yield Row(f"{workdir.path.name}, auto{'' if denoise else ' without denoising'}", cell, params)
    for name, _, student, own in students(experiment):
        yield Row(name, student, own)


def save(path: str, pictures: dict[str, Any]) -> None:
    """The samples of every row as a row of pictures."""
    from score_sde.reporting.figures import Strip, png, strips
    from score_sde.storage.images import shown

    lines = [
        Strip(name, list(shown(x).images[..., 0] if x.shape[-1] == 1 else shown(x).images), [""] * len(x))
        for name, x in pictures.items()
    ]
    pathlib.Path(path).write_bytes(png(strips(lines)))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
