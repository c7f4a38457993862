"""What the command line's modes do, each in terms of the library's own calls."""

import gc
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, TextIO

import jax

from score_sde.cli.final import Final
from score_sde.cli.naming import samples_folder, settings_of
from score_sde.cli.phases import Phase
from score_sde.config import Config
from score_sde.config.system_checks import check_mode
from score_sde.data.sources import some
from score_sde.devices.agreement import agree
from score_sde.devices.arrays import Agreement
from score_sde.devices.distributed import together
from score_sde.errors import NotFinite, require
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment.building import build
from score_sde.experiment.classifying import save_accuracy
from score_sde.experiment.diagnosis import nothing_finite, remedies
from score_sde.experiment.editing import ADAPT
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.frozen import config_of
from score_sde.experiment.generation import Generated, Generator
from score_sde.experiment.importing import import_checkpoint
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.experiment.reconstructing import save_errors
from score_sde.experiment.sample_folder import SAMPLES, SampleFolder, Summary
from score_sde.loop.health import NonFiniteLoss
from score_sde.loop.loop import train as train_loop
from score_sde.progress import Progress
from score_sde.signals import Stopped, collected
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.images import GRID
from score_sde.storage.workdir import Workdir
from score_sde.storage.writing import writing
from score_sde.systems import Classifier, FirstStage
from score_sde.training.step import TrainState

NOT_FINITE = 6
"""The exit code of results that are there, and not all of them finite."""

ENOUGH = 64
"""Samples of which not one is finite that are enough to stop."""

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


def ended(act: Callable[[], int]) -> int:
    """The exit code of a mode that also ends by a signal, or with results that are not finite, in all processes."""
    try:
        return act()
    except Stopped as error:
        say(error, file=sys.stderr)
        return error.code
    except NotFinite as error:
        say(f"score-sde: {error}", file=sys.stderr)
        return NOT_FINITE


def in_turn(runs: Sequence[Phase], act: Callable[[Config, Workdir], int]) -> int:
    """The exit code of a mode of every run in its order; the first that is not 0 ends it."""
    for run in runs:
        if run.words:
            say(run.words, file=sys.stderr)
        if code := act(run.config, Workdir(run.workdir)):
            return code
    return 0


def built(config: Config, workdir: Workdir, training: bool = False) -> Experiment:
    """The run's experiment; where it cannot be made in one of several processes, or is another one, all end."""
    record, found = together(workdir.record), []
    together(lambda: found.append(build(config, record, training=training)))
    parts = found[0].notes().items()
    notes = {f"{name} {field}": v for name, part in parts for field, v in part.items() if field != "content"}
    aside = found[0].drawing.parts.items()
    notes |= {f"frozen {part} {field}": v for part, one in aside for field, v in one.record._asdict().items()}
    agree(notes, "give all processes the same data and the same runs to take frozen parts from")
    return found[0]


def warn(text: str | None) -> None:
    """Say on stderr what is no error, if there is anything."""
    if text:
        say(f"warning: {text}", file=sys.stderr)


def train(config: Config, workdir: Workdir) -> int:
    """Train or resume, then draw the final grid and figures; returns the exit code."""
    experiment = built(config, workdir, training=True)
    generator = Generator(experiment, KeptGrids(workdir.grids))
    try:
        state = train_loop(experiment, workdir, generator=generator)
    except NonFiniteLoss as error:
        say(f"score-sde: {error}", file=sys.stderr)
        return 3
    finish(experiment, generator, state, workdir)
    return 0


def finish(experiment: Experiment, generator: Generator, state: TrainState, workdir: Workdir) -> None:
    """Draw the final grid and, where evaluation.final_samples > 0, print the two-sample figures; once per step.

    Of what draws nothing, print how many held-out examples a classifier knows, or what an autoencoder loses.

    Raises NotFinite where samples are not finite, with both written.
    """
    if isinstance(experiment.system, Classifier | FirstStage):
        told = save_accuracy if isinstance(experiment.system, Classifier) else save_errors
        say(told(experiment, experiment.weights(state), workdir, int(state.step)))
        return
    wanted, sampling = experiment.config.evaluation.final_samples, experiment.config.sampling
    final, first = Final(workdir, int(state.step)), jax.process_index() == 0
    if not together(lambda: first and final.complete(bool(wanted))):
        with writing(final.folder):
            if not together(lambda: first and final.taken_over(bool(wanted))):
                warn(experiment.early.using(final.step))
                count = max(wanted, min(sampling.num_samples, GRID))
                _make(final, experiment, generator(experiment.weights(state), count))
                return
    say(f"{workdir.path} is complete at step {final.step}: samples in {final.picture}")
    _require_all_finite(final, together(final.not_finite), sampling)


def _make(final: Final, experiment: Experiment, generated: Generated) -> None:
    """The final grid and figures of these samples, written and printed by the first process."""
    wanted = experiment.config.evaluation.final_samples
    if jax.process_index() == 0:
        texts, drawn = experiment.spec.texts(generated.x), (generated.classes, generated.finite)
        scale = final.save_picture(experiment.kind.pictured(generated.x), *drawn, texts)
        said = f"{scale}{experiment.early.words(final.step)}"
        print(f"samples of {generated.evaluations:.0f} network evaluations each in {final.picture}{said}")
        if wanted:
            parts = (some(part, COMPARED) for part in (experiment.data.train, experiment.data.held_out))
            compared = map(experiment.kind.comparable, (generated.x[:wanted], *parts))
            figures = two_sample(*compared, finite=generated.finite[:wanted])
            own = {"evaluations": generated.evaluations, **experiment.early.summary(final.step)}
            final.save_figures(own | figures.__dict__)
            print(figures)
    _require_all_finite(final, int((~generated.finite).sum()), experiment.config.sampling)


def _require_all_finite(final: Final, missing: int, sampling: Config) -> None:
    if missing:
        raise NotFinite(f"{missing} of the samples in {final.picture} are not finite numbers; {remedies(sampling)}")


def import_(config: Config, workdir: Workdir, checkpoint: str, command: str) -> int:
    """Import another program's checkpoint and tell what comes next: `command` with a mode; returns the exit code."""
    experiment = build(config, record={})
    print(f"reading {checkpoint} ...", file=sys.stderr)
    print(f"imported into {workdir.path}: {import_checkpoint(experiment, checkpoint, workdir)}")
    led = f"frozen.classifier={workdir.path} of a run of the same section sde, with guidance.classifier_scale"
    print(f"next: {led if isinstance(experiment.system, Classifier) else f'{command} --mode sample'}")
    return 0


def sample(config: Config, workdir: Workdir, overwrite: bool = False) -> int:
    """Draw sampling.num_samples samples with the newest checkpoint's averaged weights; returns the exit code.

    Batches are kept as they are drawn, and the same command goes on behind them. Raises Stopped, and NotFinite. Where
    measurement.path names a run, of a network that is shown pictures, that run draws them first.
    """
    return _sample(built(config, workdir), workdir, overwrite)


def _sample(experiment: Experiment, workdir: Workdir, overwrite: bool) -> int:
    """`sample`, of what is built."""
    draw_shown(experiment, overwrite)
    c, asked, alphabet = experiment.config.sampling, experiment.asked, experiment.spec.alphabet
    if asked is not None:
        asked.check(c.num_samples)
        warn(asked.note)
    path = samples_folder(experiment, workdir)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        folder = SampleFolder(path, settings_of(experiment, checkpoints.latest_step()), asked, alphabet)
        if together(folder.is_done):
            say(f"{path} already holds these samples")
            _tell_accuracy(folder)
            _require_finite(experiment, path, together(folder.not_finite))
            return 0
        state, meta = experiment.restore(checkpoints)
    folder = SampleFolder(path, settings_of(experiment, meta["step"]), asked, alphabet)  # not the newest, if damaged
    if choice := experiment.drawing.choice:
        say(choice, file=sys.stderr)
    if experiment.drawing.method:
        say(f"posterior score: guidance.method={experiment.drawing.method}", file=sys.stderr)
    early, average = experiment.early, (meta["step"], c.average)
    with writing(path) as first:
        done = together(lambda: folder.resume(overwrite) if first else None)
        if done < c.num_samples:
            params = weights(experiment, state, meta["position"], workdir)
            _draw(experiment, Generator(experiment, KeptGrids(workdir.grids)), params, folder, done)
        found = Summary(*together(lambda: folder.finish(early.summary(*average)) if first else None))
    said = f"{found.scale}{early.words(*average)}"
    say(f"{c.num_samples} samples of {found.evaluations:.0f} network evaluations each in {path}{said}")
    _tell_accuracy(folder)
    _require_finite(experiment, path, found.not_finite)
    return 0


def draw_shown(experiment: Experiment, overwrite: bool) -> None:
    """A cascade: the run that measurement.path names draws the pictures, which take its place; of the next seed.

    The next, as one key would give pictures of both sizes the same noise. UsageError, before any is drawn, for a run
    that draws others than the network is shown.
    """
    config, degradation = experiment.config, experiment.degradation
    c, place = config.sampling, Workdir(config.measurement.path)
    if degradation is None or not config.measurement.path or not place.config.is_file():
        return
    name = f"measurement.path={config.measurement.path}"
    require(place.checkpoints.exists(), f"{name} holds no trained run: train it first, or name the right directory")
    first = config_of(together(place.record))
    first.sampling.update(num_samples=-(-c.num_samples // config.measurement.samples), seed=(c.seed + 1) % 2**32)
    first.parallel.update(config.parallel)
    check_mode(first, "sample")
    earlier, expected = built(first, place), experiment.score_system.shown
    require(
        earlier.shape == expected and earlier.spec.kind == experiment.spec.kind,
        f"{name} draws {earlier.spec.kind} of shape {earlier.shape}, and this run's network is shown"
        f" {experiment.spec.kind} of shape {expected}: name a run that draws such",
    )
    _sample(earlier, place, overwrite)
    config.measurement.path = str(samples_folder(earlier, place) / SAMPLES)


def _tell_accuracy(folder: SampleFolder) -> None:
    """Of purified examples, with what it is not."""
    if text := together(folder.purified):
        say(text)
        warn(ADAPT)


def _draw(experiment: Experiment, generator: Generator, params: Any, folder: SampleFolder, done: int) -> None:
    """The samples that are not there yet, each batch kept; Stopped by a signal to any process, behind a batch.

    Raises NotFinite where not one of the first ENOUGH is finite: more of them would be no better.
    """
    first, agreed, good = jax.process_index() == 0, Agreement(), done
    with collected() as caught, Progress("sampling", folder.count, "samples", done, show=first) as progress:
        for drawn in generator.batches(params, folder.count, done):
            if first:
                folder.keep(drawn)
            done, good = done + len(drawn.x), good + int(drawn.finite.sum())
            progress.update(len(drawn.x))
            if good == 0 and done >= min(ENOUGH, folder.count):
                together(lambda: folder.discard() if first else None)
                raise NotFinite(nothing_finite(experiment, params, done))
            if signum := agreed.now(caught.signum):
                raise Stopped(signum, f"{done:,} of {folder.count:,} samples, which are kept")


def _require_finite(experiment: Experiment, path: pathlib.Path, count: int) -> None:
    c = experiment.config.sampling
    if count:
        raise NotFinite(
            f"{count} of {c.num_samples} samples of sampling.solver={c.solver!r} are not finite numbers: `finite` in"
            f" {path / 'samples.npz'} tells which, and the grid has a chequerboard in their places; {remedies(c)}"
        )


def report(config: Config, workdir: Workdir, command: str) -> int:
    """Make the page about the newest checkpoint's averaged weights; `command` is the run's without a mode."""
    from score_sde.reporting.tokens import report_for  # with matplotlib, for which nothing else waits

    experiment = built(config, workdir)
    with writing(workdir.path / "report"):
        with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
            state, meta = experiment.restore(checkpoints)
        params = weights(experiment, state, meta["position"], workdir)
        say(f"report in {report_for(experiment)(experiment, params, meta['step'], workdir, command)}")
    return 0


def weights(experiment: Experiment, state: TrainState, images: int, workdir: Workdir, section: str = "sampling") -> Any:
    """The parameters that the section's `average` names, of a state that has seen so many examples."""
    average = experiment.config[section].average
    warn(experiment.early.using(int(state.step), average, section))
    return experiment.weights_of(state, average, images, workdir.averages)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a table, every column as wide as its widest cell."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
