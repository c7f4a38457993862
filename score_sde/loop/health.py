"""What becomes of an update whose loss, gradient or outcome is not a finite number."""

import math
from collections.abc import Sequence

from score_sde.training.step import Metrics


class NonFiniteLoss(Exception):
    """The loss, its gradient or what they made of the parameters is not finite; the last checkpoint before stands."""


class Health:
    """Looks at every update before a line or a checkpoint is written of it.

    Without skipping the first update that is not finite raises NonFiniteLoss. With skipping (the step has left it out)
    more than max_skipped in a row do. `in_a_row` belongs into the checkpoint; `checked` is how many of the updates that
    are restored with it were looked at before.
    """

    def __init__(self, skipping: bool, max_skipped: int, in_a_row: int = 0, checked: int = 0) -> None:
        self.skipping, self.max_skipped, self.in_a_row = skipping, max_skipped, in_a_row
        self._checked = checked

    def check(self, updates: Sequence[Metrics], step: int, position: int, size: int) -> None:
        """Look at those of the updates since the last line that are new.

        step and position: of the run, after the last of them; size: examples of each update's batch.
        """
        for i in range(self._checked, len(updates)):
            after = len(updates) - 1 - i
            self._check(updates[i], step - after, position - (after + 1) * size, size)
        self._checked = len(updates)

    def line_written(self) -> None:
        """The updates seen so far are gone from the log."""
        self._checked = 0

    def _check(self, update: Metrics, step: int, first: int, count: int) -> None:
        loss, norm, size = (float(x) for x in (update.loss, update.gradient_norm, update.parameter_norm))
        finite = all(map(math.isfinite, (loss, norm, size)))
        self.in_a_row = 0 if finite else self.in_a_row + 1
        if finite or (self.skipping and self.in_a_row <= self.max_skipped):
            return
        found = f"the loss is {loss}, its gradient's norm {norm}, the new parameters' {size} at step {step}"
        many = f", number {self.in_a_row} in a row" if self.skipping else ""
        other = f"a training.max_skipped above {self.max_skipped}" if self.skipping else "training.nonfinite='skip'"
        raise NonFiniteLoss(
            f"{found}, on examples {first} to {first + count - 1} of the stream{many}: lower optimizer.learning_rate or"
            f" optimizer.grad_clip in a new --workdir, or resume from the last checkpoint with {other}"
        )
