"""Metrics of a run: metrics.jsonl and TensorBoard, without duplicate or gap across resumptions."""

import json
import math
import pathlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from score_sde.storage.files import named, sync, whole
from score_sde.training.step import BINS, BY_T, Metrics

Row = list[Any]
"""One update's Metrics as numbers, the bins as lists, `more` by name: what JSON keeps exactly."""


class MetricsLog:
    """One line per logged step, holding means over the updates since the line before.

    `pending` belongs into the checkpoint: restored with it, the lines after a resumption are those of an
    uninterrupted run. Where `write` is False (in all processes of a run but one) nothing is written.
    """

    def __init__(
        self, path: pathlib.Path, tensorboard: pathlib.Path, step: int, pending: list[Row], write: bool = True
    ) -> None:
        self._pending = [Metrics(*row) for row in pending]
        self._unread: Metrics | None = None
        self._compiling, self._path, self._writer = True, path, None
        if write:
            _truncate(path, step)
            self._writer = TensorBoard(tensorboard, step)
        self.restart_clock()

    def add(self, metrics: Metrics, images: int) -> None:
        """Take the metrics of a call (leading axis: its updates) that consumed so many images.

        They are read when the next call has been dispatched, so that the device never waits for the host.
        """
        self._read()
        self._unread = metrics
        self._images += images
        if self._compiling:  # the first call of a process: its time says nothing about the rate
            self._read()
            self.restart_clock()
            self._compiling = False

    @property
    def pending(self) -> list[Metrics]:
        """The updates that the next line will be made of; waits for the last call."""
        self._read()
        return self._pending

    def _read(self) -> None:
        if self._unread is not None:
            *columns, more = jax.tree.map(lambda m: np.asarray(m, np.float32).tolist(), self._unread)
            rows = [dict(zip(more, values)) for values in zip(*more.values())] or [{}] * len(columns[0])
            self._pending += [Metrics(*row) for row in zip(*columns, rows)]
            self._unread = None

    def flush(self, step: int, waited: float = 0.0, **more: Any) -> dict[str, Any]:
        """Write the line of this step; waited: seconds spent waiting for input since the line before."""
        now = time.monotonic()
        seconds = max(now - self._clock, 1e-9)
        line = {"step": step, **_means(self.pending), **more}
        if self._images:
            line |= {"images_per_second": self._images / seconds, "input_wait": min(waited / seconds, 1.0)}
        memory = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        if memory is not None:
            line["device_memory_mb"] = memory / 1e6
        if self._writer is not None:
            self._write(line)
        self._pending, self._images, self._clock = [], 0, now
        return line

    def _write(self, line: dict[str, Any]) -> None:
        assert self._writer is not None
        with named(self._path), self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            values = {name: value} if not isinstance(value, list) else {f"{name}/{i}": v for i, v in enumerate(value)}
            for tag, scalar in values.items():
                if scalar is not None and tag != "step":
                    self._writer.add(summary.scalar(tag, scalar), line["step"])
        self._writer.flush()

    def restart_clock(self) -> None:
        """Leave what came before, such as a compilation, out of the rate."""
        self._clock, self._images = time.monotonic(), 0

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """Leave what happens in here, such as the drawing of a grid, out of the rate."""
        self._read()
        start = time.monotonic()
        yield
        self._clock += time.monotonic() - start

    def add_image(self, name: str, image: Any, step: int) -> None:
        """Put a picture (uint8 [H, W] or [H, W, C]) into TensorBoard."""
        pixels = np.asarray(image)
        if self._writer is not None:
            form = "HW" if pixels.ndim == 2 else "HWC"
            self._writer.add(summary.image(name, pixels, dataformats=form), step)
            self._writer.flush()

    def add_text(self, name: str, text: str, step: int) -> None:
        """Put a text into TensorBoard, its lines as they are."""
        if self._writer is not None:
            self._writer.add(summary.text(name, "".join(f"    {line}\n" for line in text.splitlines())), step)
            self._writer.flush()

    def sync(self) -> None:
        """Return when the lines so far are on the disk itself: a checkpoint goes on behind them."""
        if self._writer is not None and self._path.exists():
            sync(self._path)

    def close(self) -> None:
        """Write out what is buffered."""
        if self._writer is not None:
            self._writer.close()


class TensorBoard:
    """Events of a run from behind a step on, each written by the caller, who hears of a full disk.

    (tensorboardX's SummaryWriter has a thread for that, which would die of it, and whose queue is then waited for.)
    """

    def __init__(self, folder: pathlib.Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with named(folder):
            self._events = EventsWriter(str(folder / "events"), f".{step}")
        self._folder = folder
        self._write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))  # what is later goes

    def add(self, value: Any, step: int) -> None:
        """A summary."""
        self._write(Event(step=step, summary=value))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with named(self._folder):
            self._events.write_event(event)

    def flush(self) -> None:
        """Hand what is written to the system."""
        with named(self._folder):
            self._events.flush()

    def close(self) -> None:
        """Close the file."""
        with named(self._folder):
            self._events.close()


def _means(updates: list[Metrics]) -> dict[str, Any]:
    """Means over the updates that were made; None where there is nothing to take the mean of."""
    made = [u for u in updates if not u.skipped]
    mean = lambda values: math.fsum(values) / len(values) if values else None
    names = dict.fromkeys(name for u in updates for name in u.more)
    plain = [name for name in names if not name.endswith(BY_T)]
    more = {name: mean([u.more[name] for u in made if name in u.more]) for name in plain}
    total = lambda bins: [math.fsum(bin) for bin in zip(*bins, [0.0] * BINS)]
    sums, counts = total([u.binned_loss for u in made]), total([u.binned_count for u in made])
    return {
        "loss": mean([u.loss for u in made]),
        "loss_by_t": [s / n if n else None for s, n in zip(sums, counts)],
        "gradient_norm": mean([u.gradient_norm for u in made]),
        "parameter_norm": made[-1].parameter_norm if made else None,
        "learning_rate": updates[-1].learning_rate,
        "skipped": round(sum(u.skipped for u in updates)),
        **more,
        **{name: _by_t([u for u in made if name in u.more], name) for name in names if name not in plain},
    }


def _by_t(made: list[Metrics], name: str) -> list[float | None]:
    """The means of a term's examples by bin of t, None where there is none."""
    found = []
    for i in range(BINS):
        count = math.fsum(u.binned_count[i] for u in made)
        total = math.fsum(u.more[name][i] * math.fsum(u.binned_count) for u in made)
        found.append(total / count if count else None)
    return found


def _truncate(path: pathlib.Path, step: int) -> None:
    """Drop the lines after `step` and a last line cut off by a kill; damaged ones before it are named and dropped."""
    if not path.exists():
        return
    kept, lines = [], path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                print(f"line {number} of {path} is damaged, and left out", file=sys.stderr)
    with whole(path) as unfinished:
        unfinished.write_bytes(b"".join(kept))
