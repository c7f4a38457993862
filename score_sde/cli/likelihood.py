"""--mode likelihood: rows batch by batch, kept whatever ends the program, and their means."""

import sys
from contextlib import ExitStack, closing

import jax

from score_sde.cli.modes import say, weights
from score_sde.config import Config
from score_sde.data.sources import chosen
from score_sde.devices.arrays import Agreement
from score_sde.devices.distributed import together
from score_sde.errors import NotFinite, require
from score_sde.evaluation.likelihoods import LikelihoodFolder, describe
from score_sde.experiment.experiment import build
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.experiment.objects import SPLITS
from score_sde.progress import Progress
from score_sde.signals import Stopped, collected
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.locks import locked
from score_sde.storage.workdir import Workdir


def likelihood(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Bits or nats per dimension of each example of a split, by the newest checkpoint; goes on where it was stopped.

    Returns the exit code. Raises Stopped with the finished batches kept, and NotFinite behind the last.
    """
    experiment, c, first = build(config, workdir.record()), config.likelihood, jax.process_index() == 0
    source, given = SPLITS[c.split](experiment.data)
    require(
        len(source) > 0,
        f"likelihood.split={c.split!r} names no image of data.name={config.data.name!r}: set data.held_out before"
        " training, or likelihood.split='train'",
    )
    numbers = chosen(len(source), c.num_images or len(source))
    experiment.drawing.conditions.of_examples(c.label, given, numbers[:1])  # refused before anything is written
    path = workdir.path / "likelihood"
    with ExitStack() as stack:
        together(lambda: stack.enter_context(locked(path)) if first else None)
        with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
            state, meta = experiment.restore(checkpoints)
        decisive = {name: value for name, value in c.to_dict().items() if name != "batch_size"}
        folder = LikelihoodFolder(path, {"likelihood": decisive, "step": meta["step"]}, experiment.kind.unit)
        done = together(lambda: folder.resume(overwrite) if first else 0)
        say("\n".join(folder.notes), file=sys.stderr) if folder.notes else None
        params = weights(experiment, state, meta["position"], workdir, "likelihood")
        batches = ImageLikelihood(experiment)(params, source, numbers, given, done)
        agreed, caught = Agreement(), stack.enter_context(collected())
        with Progress("likelihood", len(numbers), "images", done, show=first) as progress:
            for rows in batches:
                if first:
                    folder.table.append(rows)
                progress.update(len(rows))
                done += len(rows)
                signum = agreed.now(caught.signum)
                if signum and done < len(numbers):
                    raise Stopped(signum, f"{done} of {len(numbers)} images, kept in {folder.table.path}")
        if first:
            _tell(folder)
    return 0


def _tell(folder: LikelihoodFolder) -> None:
    """Write and print the means; raises NotFinite where they leave images out."""
    summary = folder.finish()
    print(describe(summary), f"written to {folder.path}", sep="\n")
    left_out = max(summary["not_finite"], summary["bound_not_finite"])
    if left_out:
        raise NotFinite(
            f"{left_out} of {summary['num_images']} images have a figure that is not finite, in {folder.table.path}:"
            " a larger likelihood.t_min or another likelihood.average (such as raw) may be (--overwrite replaces these)"
        )
