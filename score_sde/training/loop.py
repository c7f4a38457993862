"""The training loop: calls of the compiled step between boundaries, with logs, grids, checkpoints and resumption."""

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from score_sde.checkpoint import Checkpoints
from score_sde.data.stream import Stream
from score_sde.experiment import Experiment
from score_sde.generation import Generator
from score_sde.images import GRID, save_grid
from score_sde.parallel import check_batch_size
from score_sde.progress import Progress
from score_sde.training.metrics import MetricsLog, Pending
from score_sde.training.snapshots import discard_after, save_snapshot, snapshot_path
from score_sde.training.step import TrainState
from score_sde.workdir import Workdir


class Stopped(Exception):
    """Training was stopped by a signal, after a checkpoint was written."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}; the same command resumes")
        self.signum = signum


class NonFiniteLoss(Exception):
    """The loss or its gradient is no longer a finite number; the last checkpoint before it stands."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        remedy = "lower optimizer.learning_rate or optimizer.grad_clip and resume from the last checkpoint"
        super().__init__(f"the loss is {loss} and its gradient's norm {norm} at step {step}: {remedy}")


def train(
    experiment: Experiment, workdir: Workdir, *, generator: Generator | None = None, show: bool = True
) -> TrainState:
    """Train from scratch, or from the newest checkpoint in the workdir, up to training.num_steps.

    The generator draws the periodic grids; None makes one. A run that is complete is only read. Raises UsageError
    before anything is written, Stopped on SIGTERM or SIGINT (a checkpoint of that very step is written) and
    NonFiniteLoss.
    """
    check_batch_size("training.batch_size", experiment.config.training.batch_size)
    stream = experiment.stream
    workdir.check(experiment.config)
    if (state := _completed(experiment, workdir)) is not None:
        return state
    with workdir.lock():
        workdir.check(experiment.config)  # again: another process may have written it until now
        workdir.claim(experiment.config)
        with _signals() as caught:
            return _Run(experiment, workdir, stream, generator or Generator(experiment), show, caught).to_the_end()


def _completed(experiment: Experiment, workdir: Workdir) -> TrainState | None:
    """The newest state, if it is training.num_steps old or older."""
    if not workdir.checkpoints.exists():
        return None
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        step = checkpoints.latest_step()
        if step is None or step < experiment.config.training.num_steps:
            return None
        state, meta = checkpoints.restore(experiment.abstract_state())
        return state if meta["step"] >= experiment.config.training.num_steps else None


class _Run:
    """One process's part of a run: its place in the stream and where it writes."""

    def __init__(
        self,
        experiment: Experiment,
        workdir: Workdir,
        stream: Stream,
        generator: Generator,
        show: bool,
        caught: list[int],
    ) -> None:
        self.experiment, self.workdir, self.stream, self.generator = experiment, workdir, stream, generator
        self.show, self.caught, self.config = show, caught, experiment.config
        checkpoint = self.config.checkpoint
        self.checkpoints = Checkpoints(workdir.checkpoints, checkpoint.keep, checkpoint.keep_every)
        self.step, self.position, pending = 0, 0, []
        if self.checkpoints.latest_step() is None:
            state = experiment.initial_state()
        else:
            state, meta = self.checkpoints.restore(experiment.abstract_state())
            self.step, self.position, pending = meta["step"], meta["position"], _pending(meta)
            print(f"resuming {workdir.path} after step {self.step}", file=sys.stderr)
        self.state = experiment.strategy.place_state(state)
        discard_after(workdir.averages, self.step)
        self.log = MetricsLog(workdir.metrics, workdir.tensorboard, self.step, pending)

    def to_the_end(self) -> TrainState:
        """Every remaining call; the last state is always checkpointed."""
        config, total = self.config, self.config.training.num_steps
        call = self.experiment.strategy.compile(self.experiment.train_step())
        if self.show:
            print("compiling the training step ...", file=sys.stderr)
        with Progress("training", total, "steps", self.step, self.show) as progress:
            note = ""
            while self.step < total:
                count = self._call_length()
                self._advance(call, count)
                if self._due(config.logging.every) or self.step == total:
                    note = self._write_log()
                progress.update(count, note)
                # Grid and snapshot come first: a run killed in between resumes before them and makes them again.
                if self._due(config.logging.samples_every):
                    self._draw_grid()
                if self._due(config.ema.snapshot_every):
                    self._save_snapshot()
                stopping = bool(self.caught)
                if self._due(config.checkpoint.every) or self.step == total or stopping:
                    self._save()
                if stopping:
                    break
        self._close()
        if self.caught:
            raise Stopped(self.caught[0], self.step)
        return self.experiment.strategy.fetch_state(self.state)

    def _call_length(self) -> int:
        """Updates of the next call: steps_per_call, or fewer to end on a boundary."""
        config = self.config
        boundaries = [config.logging.every, config.checkpoint.every, config.logging.samples_every]
        boundaries.append(config.ema.snapshot_every)
        distances = [n - self.step % n for n in boundaries if n]
        return min(config.training.steps_per_call, config.training.num_steps - self.step, *distances)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _advance(self, call: Any, count: int) -> None:
        size = self.config.training.batch_size
        batches = self.stream.batches(self.position, size, count)
        self.state, metrics = call(self.state, self.experiment.strategy.place_batches(batches))
        self.log.add(metrics, size * count)
        self.step += count
        self.position += size * count

    def _write_log(self) -> str:
        """Write a line; what it says of the loss goes behind the progress bar."""
        self._check_finite()
        return f"loss {self.log.flush(self.step)['loss']:.4f}"

    def _check_finite(self) -> None:
        """Neither a line nor a checkpoint is written of a loss or a gradient that is not finite."""
        pending = self.log.pending
        for i, (loss, norm, _) in enumerate(pending):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._close()
                raise NonFiniteLoss(self.step - len(pending) + i + 1, loss, norm)

    def _save(self) -> None:
        self._check_finite()
        meta = {"step": self.step, "position": self.position, "pending": [list(row) for row in self.log.pending]}
        self.checkpoints.save(self.step, self.experiment.strategy.fetch_state(self.state), meta)

    def _save_snapshot(self) -> None:
        self._check_finite()
        averages = self.experiment.strategy.fetch_state(self.state.averages)
        save_snapshot(snapshot_path(self.workdir.averages, self.step), averages, self.position)
        self.log.restart_clock()

    def _draw_grid(self) -> None:
        average = self.experiment.strategy.fetch_state(self.experiment.weights(self.state))
        images = self.generator(average, min(self.config.sampling.num_samples, GRID), show=False).images
        picture = save_grid(self.workdir.samples / f"step_{self.step:08d}.png", images)
        self.log.add_image("samples", picture, self.step)
        self.log.restart_clock()

    def _close(self) -> None:
        self.checkpoints.close()
        self.log.close()


def _pending(meta: dict[str, Any]) -> Pending:
    return [(loss, norm, rate) for loss, norm, rate in meta["pending"]]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; a second one kills as usual. No-op off the main thread."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum: int, frame: Any) -> None:
        caught.append(signum)
        signal.signal(signum, previous[signal.Signals(signum)])

    previous = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
