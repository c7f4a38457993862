"""What the command line's modes do, each in terms of the library's own calls."""

import gc
import hashlib
import json
import os
import pathlib
import re
import sys
from contextlib import closing
from typing import Any, TextIO

import jax
import numpy as np

from score_sde.config import Config
from score_sde.data.sources import chosen, some
from score_sde.devices.distributed import together
from score_sde.errors import require
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment.experiment import Experiment, build
from score_sde.experiment.generation import Generated, Generator
from score_sde.experiment.image_likelihood import ImageLikelihood, LikelihoodFolder, completed, describe
from score_sde.experiment.importing import import_checkpoint
from score_sde.experiment.objects import SPLITS
from score_sde.loop.health import NonFiniteLoss
from score_sde.loop.loop import Stopped
from score_sde.loop.loop import train as train_loop
from score_sde.progress import Progress
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.files import whole
from score_sde.storage.images import GRID, save_samples
from score_sde.storage.workdir import Workdir, write_json
from score_sde.training.step import TrainState

COMPARED = 10_000
"""Images of the data, at most, that samples are compared with."""


def start_jax() -> None:
    """Turn on the persistent compilation cache, unless the environment says otherwise.

    What has been imported stays: from now on the garbage collector, which tracing keeps busy, passes it over.
    """
    gc.freeze()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(home / "score_sde" / "jax"))


def say(text: object, file: TextIO | None = None) -> None:
    """Print, in the first of several processes alone."""
    if jax.process_index() == 0:
        print(text, file=file)


def warn(text: str | None) -> None:
    """Say on stderr what is no error, if there is anything."""
    if text:
        say(f"warning: {text}", file=sys.stderr)


def train(config: Config, workdir: Workdir) -> int:
    """Train or resume, then draw the final grid and figures; returns the exit code."""
    experiment = build(config, workdir.record())
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
    warn(experiment.early.using(step))
    generated = generator(experiment.weights(state), max(wanted, min(experiment.config.sampling.num_samples, GRID)))
    if jax.process_index() > 0:
        return
    _, scale = save_samples(picture, generated.x, generated.condition.get("label"))
    early = experiment.early
    print(f"samples of {generated.evaluations:.0f} network evaluations each in {picture}{scale}{early.words(step)}")
    if wanted:
        parts = (some(part, COMPARED) for part in (experiment.data.train, experiment.data.held_out))
        figures = two_sample(*map(experiment.kind.comparable, (generated.x[:wanted], *parts)))
        own = {"step": step, "evaluations": generated.evaluations, **early.summary(step)}
        write_json(report, own | figures.__dict__)
        print(figures)


def import_(config: Config, workdir: Workdir, checkpoint: str, command: str) -> int:
    """Import another program's checkpoint and tell what comes next: `command` with a mode; returns the exit code."""
    experiment = build(config, record={})
    print(f"reading {checkpoint} ...", file=sys.stderr)
    print(f"imported into {workdir.path}: {import_checkpoint(experiment, checkpoint, workdir)}")
    print(f"next: {command} --mode sample")
    return 0


def sample(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Draw sampling.num_samples samples with the newest checkpoint's averaged weights; returns the exit code."""
    experiment = build(config, workdir.record())
    c = config.sampling
    folder = workdir.samples / samples_name(c)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        settings = {"sampling": c.to_dict(), "step": checkpoints.latest_step()}
        if together(lambda: _is_done(folder, settings, overwrite)):
            say(f"{folder} already holds these samples")
            return 0
        state, meta = experiment.restore(checkpoints)
    settings["step"] = meta["step"]  # not the newest, where that is damaged
    generated = Generator(experiment)(weights(experiment, state, meta["position"], workdir), c.num_samples)
    if jax.process_index() == 0:
        early, average = experiment.early, (meta["step"], c.average)
        scale = _write_samples(folder, generated, settings | early.summary(*average)) + early.words(*average)
        print(f"{c.num_samples} samples of {generated.evaluations:.0f} network evaluations each in {folder}{scale}")
    return 0


def samples_name(sampling: Config) -> str:
    """The name of the folder of these samples: the fields that one compares; settings.json has them all."""
    c = sampling
    name = f"{'reference-' * c.reference}{c.solver}-{c.num_steps}-seed{c.seed}"
    label = "_".join(re.findall(r"[\w.]+", c.label))
    label = label if len(label) < 80 else hashlib.sha256(label.encode()).hexdigest()[:16]
    return name + (f"-{c.average}" if c.average else "") + (f"-label_{label}" if label else "")


def likelihood(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Bits or nats per dimension of each example of a split, by the newest checkpoint; goes on where it was stopped."""
    experiment, c = build(config, workdir.record()), config.likelihood
    source, given = SPLITS[c.split](experiment.data)
    require(
        len(source) > 0,
        f"likelihood.split={c.split!r} names no image of data.name={config.data.name!r}: set data.held_out before"
        " training, or likelihood.split='train'",
    )
    numbers = chosen(len(source), c.num_images or len(source))
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    decisive = {name: value for name, value in c.to_dict().items() if name != "batch_size"}
    settings = {"likelihood": decisive, "step": meta["step"]}
    folder = LikelihoodFolder(workdir.path / "likelihood", settings, experiment.kind.unit)
    experiment.drawing.conditions.of_examples(c.label, given, numbers[:1])  # refused before anything is written
    done = together(lambda: folder.resume(overwrite) if jax.process_index() == 0 else 0)
    params = weights(experiment, state, meta["position"], workdir, "likelihood")
    with Progress("likelihood", len(numbers), "images", done, show=jax.process_index() == 0) as progress:
        for rows in ImageLikelihood(experiment)(params, source, numbers[done:], given):
            if jax.process_index() == 0:
                folder.table.append(rows)
            progress.update(len(rows))
    if jax.process_index() == 0:
        early = experiment.early.words(meta["step"], c.average)
        print(describe(folder.finish()), f"written to {folder.path}{early}", sep="\n")
    return 0


def report(config: Config, workdir: Workdir, command: str) -> int:
    """Make the page about the newest checkpoint's averaged weights; `command` is the run's without a mode."""
    from score_sde.reporting.report import report  # with matplotlib, for which nothing else waits

    experiment = build(config, workdir.record())
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        state, meta = experiment.restore(checkpoints)
    params = weights(experiment, state, meta["position"], workdir)
    say(f"report in {report(experiment, params, meta['step'], workdir, command)}")
    return 0


def weights(experiment: Experiment, state: TrainState, images: int, workdir: Workdir, section: str = "sampling") -> Any:
    """The parameters that the section's `average` names, of a state that has seen so many examples."""
    average = experiment.config[section].average
    warn(experiment.early.using(int(state.step), average, section))
    return experiment.weights_of(state, average, images, workdir.averages)


def _is_done(folder: pathlib.Path, settings: dict, overwrite: bool) -> bool:
    """Whether the folder holds just these samples; UsageError where it holds others and may not be overwritten."""
    file = folder / "settings.json"
    if not file.exists():
        return False
    try:
        old = dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        old = {}
    if completed(old, settings) == json.loads(json.dumps(settings)):
        return (folder / "samples.npz").exists()
    require(
        overwrite,
        f"{folder} holds samples of other settings or of another checkpoint: add --overwrite, or change sampling.seed",
    )
    return False


def _write_samples(folder: pathlib.Path, generated: Generated, settings: dict) -> str:
    """The samples first and whole, settings.json last: where it stands, the folder is complete.

    Samples are in the data's units, with what each was conditioned on by name. Returns what the grid's greys stand for.
    """
    (folder / "settings.json").unlink(missing_ok=True)
    with whole(folder / "samples.npz") as unfinished:
        arrays: dict[str, Any] = {"evaluations": generated.counts, **generated.condition}
        np.savez_compressed(unfinished, samples=generated.x, **arrays)
    _, scale = save_samples(folder / "grid.png", generated.x, generated.condition.get("label"))
    write_json(folder / "settings.json", {**settings, "evaluations": generated.evaluations})
    return scale
