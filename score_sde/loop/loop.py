"""The training loop: calls of the compiled step between boundaries, with logs, grids, checkpoints and resumption."""

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from typing import Any

import jax
import numpy as np

from score_sde.devices.arrays import Agreement, collect
from score_sde.devices.parallel import check_batch_size, process_rows
from score_sde.errors import CheckpointError, require
from score_sde.experiment import Experiment
from score_sde.experiment.early import short_of_warm_up
from score_sde.experiment.generation import Generator
from score_sde.experiment.kept_grids import KeptGrids
from score_sde.experiment.objects import SKIPPING
from score_sde.experiment.pairs import draw_pairs
from score_sde.experiment.resolving import agree_on_data
from score_sde.loop.account import account
from score_sde.loop.health import Health
from score_sde.loop.heldout import HeldOut
from score_sde.loop.metrics import MetricsLog
from score_sde.loop.prefetch import Prefetch
from score_sde.loop.schedule import Call, schedule
from score_sde.loop.sufficient import check_sufficient
from score_sde.progress import Progress
from score_sde.signals import Caught, Stopped, collected
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.images import GRID, save_samples
from score_sde.storage.texts import save_texts, written
from score_sde.storage.workdir import Workdir
from score_sde.training.snapshots import discard_after, save_snapshot, snapshot_path
from score_sde.training.step import TrainState

RATE = "optimizer.learning_rate"


def train(
    experiment: Experiment, workdir: Workdir, *, generator: Generator | None = None, show: bool = True
) -> TrainState:
    """Train from scratch, or from the newest checkpoint in the workdir, up to training.num_steps.

    The generator draws the periodic grids; None makes one. A run that is complete is only read. Of several processes
    the first one writes; all see the same files. Raises UsageError before anything is written, Stopped on SIGTERM,
    SIGINT or SIGHUP in any process (all write a checkpoint of one step) and NonFiniteLoss.
    """
    config = experiment.config
    experiment.check()
    check_batch_size("training.batch_size", config.training.batch_size, config.training.microbatches)
    agree_on_data(lambda: experiment.data)
    for line in check_sufficient(experiment):
        if jax.process_index() == 0:
            print(line, file=sys.stderr)
    held_out = HeldOut(experiment) if config.evaluation.every else None
    workdir.check(config)
    workdir.check_record(experiment.notes())
    if (state := _completed(experiment, workdir)) is not None:
        return state
    first = jax.process_index() == 0
    with workdir.lock() if first else nullcontext():
        begun = workdir.config.exists()
        if first:
            workdir.check(config)  # again: another process may have written it until now
        if first and not begun:
            workdir.claim(config, **experiment.notes())
            account(config, experiment.data, workdir)
        with collected() as caught:
            draw_pairs(experiment, workdir.pairs, lambda: caught.signum, show and first)
            generator = generator or Generator(experiment, KeptGrids(workdir.grids))
            run = _Run(experiment, workdir, generator, held_out, show, caught)
            with run:
                if first and begun:
                    workdir.claim(config, step=run.step, **experiment.notes())
                return run.to_the_end()


def _completed(experiment: Experiment, workdir: Workdir) -> TrainState | None:
    """The newest state, if it is training.num_steps old or older."""
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        step = checkpoints.latest_step()
        if step is None or step < experiment.config.training.num_steps:
            return None
        state, meta = experiment.restore(checkpoints)
        return state if meta["step"] >= experiment.config.training.num_steps else None


class _Run:
    """One process's part of a run: its place in the stream and where it writes; a context that closes what is open."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Workdir,
        generator: Generator,
        held_out: HeldOut | None,
        show: bool,
        caught: Caught,
    ) -> None:
        self.experiment, self.workdir, self.generator = experiment, workdir, generator
        self.held_out, self.caught, self.config = held_out, caught, experiment.config
        self.stream = experiment.stream
        self.first = jax.process_index() == 0
        self.show = show and self.first
        c = self.config.checkpoint
        self.checkpoints = Checkpoints(workdir.checkpoints, c.keep, c.keep_every)
        self.step, self.position, self.grid_left_out, pending, in_a_row = 0, 0, False, [], 0
        if self.checkpoints.latest_step() is None:
            if experiment.origin:
                self._say(experiment.origin)
            make = experiment.beginning()
        else:
            state, meta = experiment.restore(self.checkpoints)
            self.step, self.position, pending = meta["step"], meta["position"], meta["pending"]
            in_a_row = meta.get("skipped_in_a_row", 0)  # an imported run has never skipped
            self.grid_left_out = meta.get("grid_left_out", False)
            self._check_images(meta.get("images"))
            self._say(f"resuming {workdir.path} after step {self.step}{workdir.changed(self.config, RATE)}")
            make = lambda: state
        self._warn()
        self._state = self._beside(lambda: experiment.strategy.place_state(make()))
        if self.first:
            discard_after(workdir.averages, self.step)
        c = self.config.training
        self.health = Health(SKIPPING[c.nonfinite], c.max_skipped, in_a_row, checked=len(pending))
        self.log = MetricsLog(workdir.metrics, workdir.tensorboard, self.step, pending, write=self.first)
        self.agreed = Agreement()

    def __enter__(self) -> "_Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for close in (self.log.close, self.checkpoints.close):
            try:
                close()
            except (CheckpointError, OSError) as another:
                if error is not None and isinstance(another, CheckpointError):  # else the disk has been spoken of
                    print(f"score-sde: {another}", file=sys.stderr)
                error = error or another
        if kind is None and error is not None:
            raise error

    @property
    def state(self) -> Any:
        """The placed state; the first one may have to be waited for."""
        if isinstance(self._state, Future):
            self._state = self._state.result()
        return self._state

    @staticmethod
    def _beside(make: Callable[[], Any]) -> Any:
        """What is made, or the promise of it where it may be made while the step is traced."""
        if jax.process_count() > 1:
            return make()
        pool = ThreadPoolExecutor(1, "state")
        promise = pool.submit(make)
        pool.shutdown(wait=False)
        return promise

    def _say(self, text: object) -> None:
        if self.first:
            print(text, file=sys.stderr)

    def _warn(self) -> None:
        """Of what can be told of the run's end before it is trained."""
        last, early = self.config.training.num_steps, self.experiment.early
        late = short_of_warm_up(self.config.optimizer.warmup, last) if self.step == 0 else None
        for line in (*early.before_training(self.step, last), late):
            if line:
                self._say(f"warning: {line}")
        for part, frozen in self.experiment.frozen.items():
            if young := frozen.experiment.early.words(frozen.record.step, frozen.record.average):
                self._say(f"warning: frozen.{part}={frozen.record.run}{young}")

    def _check_images(self, count: int | None) -> None:
        """The order of the images is a function of their number: with another one it would be another run."""
        found = len(self.stream.source)
        require(
            count in (None, found),
            f"--workdir {self.workdir.path} was trained on {count} images and data.name={self.config.data.name!r} has"
            f" {found} now: give it those images again, or train in another --workdir",
        )

    def to_the_end(self) -> TrainState:
        """Every remaining call; the last state is always checkpointed."""
        config, strategy, total = self.config, self.experiment.strategy, self.config.training.num_steps
        call = self.experiment.compiled_step()
        planned = lambda: schedule(config, self.step, self.position)
        rows = process_rows(config.training.batch_size)
        batches = self.stream.calls(planned(), rows, config.data.workers)
        if self.show:
            self._say("compiling the training step ...")
        signum, note = 0, ""
        with (
            Prefetch(batches, strategy.place_batches) as ready,
            Progress("training", total, "steps", self.step, self.show) as progress,
        ):
            if self.grid_left_out:
                self._draw_grid()
            for plan, batch in zip(planned(), ready):
                self._advance(call, plan, batch)
                self.checkpoints.check()
                signum = self.agreed(self._signal(), after=self.state)
                evaluated = self._evaluate() if self._due(config.evaluation.every) else {}
                if evaluated or self._due(config.logging.every) or self.step == total:
                    note = self._write_log(ready, evaluated)
                progress.update(plan.steps, note)
                # Grid and snapshot come first: a run killed in between resumes before them and makes them again.
                if self._due(config.ema.snapshot_every):
                    self._save_snapshot()
                # After a signal there may be no time for a grid: whoever resumes draws it.
                grid = self._due(config.logging.samples_every)
                self.grid_left_out = grid and signum > 0
                if grid and not signum:
                    self._draw_grid()
                if self._due(config.checkpoint.every) or self.step == total or signum:
                    self._save()
                if signum:
                    break
        self.checkpoints.close()
        if signum := signum or self.agreed.now(self._signal()):
            raise Stopped(signum, f"step {self.step}")
        return strategy.fetch_state(self.state)

    def _signal(self) -> int:
        return self.caught.signum

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _advance(self, call: Any, plan: Call, batch: Any) -> None:
        call.prepare(batch)
        self._state, metrics = call(self.state, batch)
        self.step += plan.steps
        self.position += plan.steps * plan.size
        self.log.add(metrics, plan.steps * plan.size)

    def _write_log(self, ready: Prefetch, evaluated: dict[str, float]) -> str:
        """Write a line; what it says of the loss goes behind the progress bar."""
        self._check_finite()
        line = self.log.flush(self.step, ready.waited, **evaluated)
        self.health.line_written()
        ready.waited = 0.0
        return "loss " + ("not finite" if line["loss"] is None else f"{line['loss']:.4f}")

    def _check_finite(self) -> None:
        """Neither a line nor a checkpoint is written of a loss or a gradient that is not finite."""
        self.health.check(self.log.pending, self.step, self.position, self.config.training.batch_size)

    def _save(self) -> None:
        self._check_finite()
        meta = {
            "step": self.step,
            "position": self.position,
            "pending": [list(row) for row in self.log.pending],
            "skipped_in_a_row": self.health.in_a_row,
            "images": len(self.stream.source),
            "grid_left_out": self.grid_left_out,
        }
        self.log.sync()
        self.checkpoints.save(self.step, self.experiment.strategy.fetch_state(self.state), meta)

    def _save_snapshot(self) -> None:
        self._check_finite()
        with self.log.clock_stopped():
            averages = collect(self.experiment.strategy.fetch_state(self.state.averages))
            if self.first:
                save_snapshot(snapshot_path(self.workdir.averages, self.step), averages, self.position)

    def _evaluate(self) -> dict[str, float]:
        """The loss on held-out images of the parameters and of their average."""
        assert self.held_out is not None
        self._check_finite()
        fetch = self.experiment.strategy.fetch_state
        with self.log.clock_stopped():
            losses = self.held_out({"raw": fetch(self.state.params), **fetch(self.state.averages)})
        return {f"held_out_loss_{name}": loss for name, loss in losses.items()}

    def _draw_grid(self) -> None:
        if line := self.experiment.early.using(self.step):
            self._say(f"warning: {line}")
        with self.log.clock_stopped():
            average = self.experiment.strategy.fetch_state(self.experiment.weights(self.state))
            drawn = self.generator(average, min(self.config.sampling.num_samples, GRID), show=False)
            if self.first:
                path = self.workdir.samples / f"step_{self.step:08d}.png"
                picture, scale = save_samples(path, self.experiment.kind.pictured(drawn.x), drawn.classes, drawn.finite)
                self.log.add_image("samples", picture, self.step)
                if (texts := self.experiment.spec.texts(drawn.x)) is not None:
                    save_texts(path.with_suffix(".txt"), texts)
                    self.log.add_text("samples", written(texts), self.step)
                if scale:
                    self._say(f"{path}{scale}")
                if not drawn.finite.all():
                    bad = f"{np.sum(~drawn.finite)} of {len(drawn.finite)} samples"
                    self._say(f"{path}: {bad} are not finite, and marked by a chequerboard; training goes on")
