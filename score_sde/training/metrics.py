"""Metrics of a run: metrics.jsonl and TensorBoard, without duplicate or gap across resumptions."""

import json
import math
import pathlib
import time
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from score_sde.files import whole
from score_sde.training.step import Metrics

Pending = list[tuple[float, float, float]]
"""(loss, gradient norm, learning rate) of the updates since the last logged step."""


class MetricsLog:
    """One line per logged step, holding means over the updates since the line before.

    `pending` belongs into the checkpoint: restored with it, the lines after a resumption are those of an
    uninterrupted run.
    """

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path, step: int, pending: Pending) -> None:
        self._pending, self._unread, self._compiling = pending, None, True
        self._path = path
        _truncate(path, step)
        self._writer = SummaryWriter(str(tensorboard), purge_step=step + 1, filename_suffix=f".{step}")
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
    def pending(self) -> Pending:
        """What the next line will be made of; waits for the last call."""
        self._read()
        return self._pending

    def _read(self) -> None:
        if self._unread is not None:
            self._pending += [tuple(row) for row in np.stack([np.asarray(m) for m in self._unread], axis=1).tolist()]
            self._unread = None

    def flush(self, step: int) -> dict[str, float]:
        """Write the line of this step."""
        loss, norm, rate = zip(*self.pending)
        now = time.monotonic()
        line = {
            "step": step,
            "loss": math.fsum(loss) / len(loss),
            "gradient_norm": math.fsum(norm) / len(norm),
            "learning_rate": rate[-1],
            "images_per_second": self._images / max(now - self._clock, 1e-9) if self._images else 0.0,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        self._writer.flush()
        self._pending, self._images, self._clock = [], 0, now
        return line

    def restart_clock(self) -> None:
        """Leave what came before, a compilation or a drawn grid, out of the rate."""
        self._clock, self._images = time.monotonic(), 0

    def add_image(self, name: str, image: Any, step: int) -> None:
        """Put a picture (uint8 [H, W] or [H, W, C]) into TensorBoard."""
        pixels = np.asarray(image)
        self._writer.add_image(name, pixels, step, dataformats="HW" if pixels.ndim == 2 else "HWC")

    def close(self) -> None:
        """Write out what is buffered."""
        self._writer.close()


def _truncate(path: pathlib.Path, step: int) -> None:
    """Drop the lines after `step`, and a last line cut off by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            break
    with whole(path) as unfinished:
        unfinished.write_text("".join(kept))
