"""Which updates each call of the compiled step makes: calls end on every boundary where something is due."""

from collections.abc import Iterator
from typing import NamedTuple

from score_sde.config import Config


class Call(NamedTuple):
    """`steps` updates over batches of `size` examples, from the stream's position `first` on."""

    first: int
    size: int
    steps: int


def schedule(config: Config, step: int, position: int) -> Iterator[Call]:
    """The calls from after `step` updates and `position` examples to training.num_steps.

    A call makes training.steps_per_call updates, or fewer where a line, a checkpoint, a grid, an evaluation or a
    snapshot is due before.
    """
    boundaries = [config.logging.every, config.logging.samples_every, config.checkpoint.every]
    boundaries += [config.evaluation.every, config.ema.snapshot_every]
    size, total = config.training.batch_size, config.training.num_steps
    while step < total:
        distances = [n - step % n for n in boundaries if n]
        steps = min(config.training.steps_per_call, total - step, *distances)
        yield Call(position, size, steps)
        step, position = step + steps, position + steps * size
