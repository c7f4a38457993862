"""What the command line's modes do, each in terms of the library's own calls."""

import json
import os
import pathlib
import sys
from contextlib import closing
from typing import Any, TextIO

import jax
import numpy as np

from score_sde.config import Config
from score_sde.config.averages import canonical, width
from score_sde.data.sources import chosen, some
from score_sde.devices.distributed import together
from score_sde.errors import require
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment import Experiment, build
from score_sde.experiment.generation import Generated, Generator
from score_sde.experiment.image_likelihood import ImageLikelihood, LikelihoodFolder, describe
from score_sde.experiment.importing import import_checkpoint
from score_sde.experiment.objects import SPLITS
from score_sde.loop.health import NonFiniteLoss
from score_sde.loop.loop import Stopped
from score_sde.loop.loop import train as train_loop
from score_sde.loop.snapshots import reconstruct
from score_sde.progress import Progress
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.files import whole
from score_sde.storage.images import GRID, save_grid
from score_sde.storage.workdir import Workdir, write_json
from score_sde.training.step import TrainState

COMPARED = 10_000
"""Images of the data, at most, that samples are compared with."""


def start_jax() -> None:
    """Turn on the persistent compilation cache, unless the environment says otherwise."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(home / "score_sde" / "jax"))


def say(text: object, file: TextIO | None = None) -> None:
    """Print, in the first of several processes alone."""
    if jax.process_index() == 0:
        print(text, file=file)


def train(config: Config, workdir: Workdir) -> int:
    """Train or resume, then draw the final grid and figures; returns the exit code."""
    experiment = build(config)
    generator = Generator(experiment)
    try:
        state = train_loop(experiment, workdir, generator=generator)
    except Stopped as error:
        say(error, file=sys.stderr)
        return 128 + error.signum
    except NonFiniteLoss as error:
        say(f"score-sde: {error}", file=sys.stderr)
        return 3
    finish(experiment, generator, state, workdir)
    return 0


def finish(experiment: Experiment, generator: Generator, state: TrainState, workdir: Workdir) -> None:
    """Draw the final grid and, where evaluation.final_samples > 0, print the two-sample figures; once per step."""
    step, wanted = int(state.step), experiment.config.evaluation.final_samples
    picture, report = workdir.samples / f"final_{step:08d}.png", workdir.path / "evaluation" / f"final_{step:08d}.json"
    if together(lambda: picture.exists() and (report.exists() or not wanted)):
        say(f"{workdir.path} is complete at step {step}: samples in {picture}")
        return
    generated = generator(experiment.weights(state), max(wanted, min(experiment.config.sampling.num_samples, GRID)))
    if jax.process_index() > 0:
        return
    save_grid(picture, generated.images[:GRID])
    print(f"samples of {generated.evaluations:.0f} network evaluations each in {picture}")
    if wanted:
        parts = (experiment.images.train, experiment.images.held_out)
        figures = two_sample(generated.images[:wanted], *(some(part, COMPARED) for part in parts))
        write_json(report, {"step": step, "evaluations": generated.evaluations, **figures.__dict__})
        print(figures)


def import_(config: Config, workdir: Workdir, checkpoint: str, command: str) -> int:
    """Import another program's checkpoint and tell what comes next: `command` with a mode; returns the exit code."""
    experiment = build(config)
    print(f"reading {checkpoint} ...", file=sys.stderr)
    print(f"imported into {workdir.path}: {import_checkpoint(experiment, checkpoint, workdir)}")
    print(f"next: {command} --mode sample")
    return 0


def sample(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Draw sampling.num_samples samples with the newest checkpoint's averaged weights; returns the exit code."""
    experiment = build(config)
    c = config.sampling
    folder = workdir.samples / f"{'reference-' * c.reference}{c.solver}-{c.num_steps}-seed{c.seed}"
    folder = folder.with_name(f"{folder.name}-{c.average}") if c.average else folder
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        settings = {"sampling": c.to_dict(), "step": checkpoints.latest_step()}
        if together(lambda: _is_done(folder, settings, overwrite)):
            say(f"{folder} already holds these samples")
            return 0
        state, meta = checkpoints.restore(experiment.restorable_state())
    settings["step"] = meta["step"]  # not the newest, where that is damaged
    generated = Generator(experiment)(weights(experiment, state, meta["position"], workdir), c.num_samples)
    if jax.process_index() == 0:
        _write_samples(folder, generated, settings)
    say(f"{c.num_samples} samples of {generated.evaluations:.0f} network evaluations each in {folder}")
    return 0


def likelihood(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Bits per dimension of each image of a split, by the newest checkpoint; goes on where it was stopped."""
    experiment, c = build(config), config.likelihood
    images = SPLITS[c.split](experiment.images)
    require(
        len(images) > 0,
        f"likelihood.split={c.split!r} names no image of data.name={config.data.name!r}: set data.held_out before"
        " training, or likelihood.split='train'",
    )
    numbers = chosen(len(images), c.num_images or len(images))
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = checkpoints.restore(experiment.restorable_state())
    decisive = {name: value for name, value in c.to_dict().items() if name != "batch_size"}
    folder = LikelihoodFolder(workdir.path / "likelihood", {"likelihood": decisive, "step": meta["step"]})
    done = together(lambda: folder.resume(overwrite))
    params = weights(experiment, state, meta["position"], workdir, "likelihood")
    with Progress("likelihood", len(numbers), "images", done, show=jax.process_index() == 0) as progress:
        for rows in ImageLikelihood(experiment)(params, images, numbers[done:]):
            if jax.process_index() == 0:
                folder.table.append(rows)
            progress.update(len(rows))
    if jax.process_index() == 0:
        print(describe(folder.finish()), f"written to {folder.path}", sep="\n")
    return 0


def report(config: Config, workdir: Workdir, command: str) -> int:
    """Make the page about the newest checkpoint's averaged weights; `command` is the run's without a mode."""
    from score_sde.reporting.report import report  # with matplotlib, for which nothing else waits

    experiment = build(config)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = checkpoints.restore(experiment.restorable_state())
    params = weights(experiment, state, meta["position"], workdir)
    say(f"report in {report(experiment, params, meta['step'], workdir, command)}")
    return 0


def weights(experiment: Experiment, state: TrainState, images: int, workdir: Workdir, section: str = "sampling") -> Any:
    """The parameters that the section's `average` names, of a state that has seen so many images."""
    name = experiment.config[section].average
    std = width(name)
    if std is None or canonical(name) in experiment.averages:
        return experiment.weights(state, name)
    return reconstruct(workdir.averages, int(state.step), state.averages, images, std)


def _is_done(folder: pathlib.Path, settings: dict, overwrite: bool) -> bool:
    """Whether the folder holds just these samples; UsageError where it holds others and may not be overwritten."""
    file = folder / "settings.json"
    if not file.exists():
        return False
    try:
        old = dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        old = {}
    if {k: old.get(k) for k in settings} == json.loads(json.dumps(settings)):
        return (folder / "samples.npz").exists()
    require(
        overwrite,
        f"{folder} holds samples of other settings or of another checkpoint: add --overwrite, or change sampling.seed",
    )
    return False


def _write_samples(folder: pathlib.Path, generated: Generated, settings: dict) -> None:
    """The samples first and whole, settings.json last: where it stands, the folder is complete."""
    (folder / "settings.json").unlink(missing_ok=True)
    with whole(folder / "samples.npz") as unfinished:
        np.savez_compressed(unfinished, samples=generated.images, evaluations=generated.counts)
    save_grid(folder / "grid.png", generated.images[:GRID])
    write_json(folder / "settings.json", {**settings, "evaluations": generated.evaluations})
