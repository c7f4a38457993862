"""--mode likelihood: rows batch by batch, kept whatever ends the program, and their means."""

import math
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.cli.modes import built, say, weights
from score_sde.config import Config
from score_sde.config.guidance_checks import is_neutral
from score_sde.data.sources import chosen
from score_sde.devices.arrays import Agreement
from score_sde.devices.distributed import together
from score_sde.errors import NotFinite, require
from score_sde.evaluation.likelihoods import LikelihoodFolder, describe
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.image_likelihood import ImageLikelihood, Pilot
from score_sde.experiment.objects import SPLITS
from score_sde.experiment.own_bound import OwnBound
from score_sde.experiment.resolving import agree_on_data
from score_sde.likelihood import bayes
from score_sde.progress import Progress
from score_sde.signals import Stopped, collected
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.storage.writing import writing
from score_sde.systems.base import Bounded


def likelihood(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Bits or nats per dimension of each example of a split, by the newest checkpoint; goes on where it was stopped.

    Returns the exit code. Raises Stopped with the finished batches kept, and NotFinite behind the last.
    """
    require(
        is_neutral(config.guidance),
        "a guided score is the gradient of no density at all noise levels at once, so a guided model has no likelihood:"
        " leave the section guidance alone for --mode likelihood",
    )
    experiment, c = built(config, workdir), config.likelihood
    agree_on_data(lambda: experiment.data)
    source, given = SPLITS[c.split](experiment.data)
    require(
        len(source) > 0,
        f"likelihood.split={c.split!r} names no image of data.name={config.data.name!r}: set data.held_out before"
        " training, or likelihood.split='train'",
    )
    numbers = chosen(len(source), c.num_images or len(source))
    experiment.drawing.conditions.of_examples(c.label, given, numbers[:1])  # refused before anything is written
    own = isinstance(experiment.system, Bounded)
    program = OwnBound(experiment) if own else ImageLikelihood(experiment)
    terms = program.terms  # refused where there are none, before anything is written
    path = workdir.path / "likelihood"
    with writing(path) as first:
        with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
            state, meta = experiment.restore(checkpoints)
        decisive = {name: value for name, value in c.to_dict().items() if name != "batch_size"}
        first_time = {"t_0": config.training.t_min} if config.system.name == "latent" else {}
        settings = {"likelihood": decisive, "step": meta["step"], **first_time}
        folder = LikelihoodFolder(path, settings, experiment.kind.unit, program.classes, terms)
        done = together(lambda: folder.resume(overwrite) if first else 0)
        for note in folder.notes:
            print(note, file=sys.stderr)
        params = weights(experiment, state, meta["position"], workdir, "likelihood")
        options = {}
        if isinstance(program, ImageLikelihood) and c.solver == "grid":
            options["pilot"] = _pilot(folder, lambda: program.pilot(params, source, numbers, given), first)
        _compute(program(params, source, numbers, given, done, **options), folder, len(numbers), done)
        more = lambda: _by_class(experiment, program, folder) | _of_tokens(experiment, folder)
        summary = together(lambda: folder.finish(more()) if first else None)
        early = experiment.early.words(meta["step"], c.average)
        say(f"{describe(summary)}\nwritten to {folder.path}{early}")
    left_out = max(count for name, count in summary.items() if name.endswith("not_finite"))
    if left_out:
        raise NotFinite(
            f"{left_out} of {summary['num_images']} images have a figure that is not finite, in {folder.table.path}:"
            f" try --overwrite with likelihood.average='raw'{'' if own else ', or a larger likelihood.t_min'}; if all"
            " are alike, the weights are at fault: train on from an earlier checkpoint, or import them anew"
        )
    return 0


def _by_class(experiment: Experiment, program: ImageLikelihood | OwnBound, folder: LikelihoodFolder) -> dict[str, Any]:
    """Of likelihood.label='each', how many examples Bayes' rule gives their own class, and its log-probability's mean.

    By the classes' shares of the training split.
    """
    labels, rows = experiment.spec.labels, folder.table.rows()
    if not program.classes or labels is None or not len(rows):
        return {}
    own = np.searchsorted(program.classes, rows[:, -len(program.classes) - 1].astype(int))
    nats = math.prod(experiment.shape) * (math.log(2) if experiment.kind.unit == "bits" else 1)
    # Differences of the classes alone count: of the example's least figure all are taken.
    figures = rows[:, -len(program.classes) :]
    log_prob = -(figures - figures.min(1, keepdims=True)) * nats
    found = bayes(jnp.asarray(log_prob, jnp.float32), jnp.asarray([labels.frequencies[k] for k in program.classes]))
    posterior = np.asarray(found.log_posterior)[np.arange(len(own)), own]
    return {"accuracy": float(np.mean(np.asarray(found.label) == own)), "log_posterior": float(posterior.mean())}


def _of_tokens(experiment: Experiment, folder: LikelihoodFolder) -> dict[str, Any]:
    """The perplexity e^(nats of a token) by the mean bound, of tokens."""
    if experiment.spec.kind != "tokens" or not len(rows := folder.table.rows()):
        return {}
    return {"perplexity": math.exp(float(np.nanmean(rows[:, folder.table.columns.index("nats_per_dim")])))}


def _pilot(folder: LikelihoodFolder, fly: Callable[[], Pilot], first: bool) -> Pilot:
    """The folder's, or one that is flown now and kept there."""
    kept = together(lambda: folder.pilot() if first else None)
    if kept is None:
        say("finding a grid of times on a few examples ...")
        kept = fly()._asdict()
        together(lambda: folder.keep(kept) if first else None)
    return Pilot(**{**kept, "times": tuple(kept["times"])})


def _compute(batches: Iterable[np.ndarray], folder: LikelihoodFolder, count: int, done: int) -> None:
    """Rows to the file as they come; Stopped by a signal to any process, behind a batch."""
    first, agreed = jax.process_index() == 0, Agreement()
    with collected() as caught, Progress("likelihood", count, "images", done, show=first) as progress:
        for rows in batches:
            if first:
                folder.table.append(rows)
            done += len(rows)
            progress.update(len(rows))
            if signum := agreed.now(caught.signum):
                raise Stopped(signum, f"{done:,} of {count:,} images, which are kept")
