"""Which update stops a run, and what is said of it."""

import pytest

from score_sde.loop.health import Health, NonFiniteLoss
from score_sde.training.step import Metrics

NAN = float("nan")


def updates(*losses: float) -> list[Metrics]:
    return [Metrics(loss, 1.0, 1.0, 1.0, float(loss != loss), [], []) for loss in losses]  # pyright: ignore


def test_stop_names_the_step_and_the_batch():
    """Three updates of 16 examples end at step 12, position 192: the second is step 11, examples 160 to 175."""
    with pytest.raises(NonFiniteLoss, match=r"loss is nan, .* at step 11, on examples 160 to 175 .*_rate.*'skip'"):
        Health(False, 10).check(updates(1, NAN, NAN), 12, 192, 16)


def test_an_infinite_gradient_of_a_finite_loss_stops_too():
    row = updates(1.0)[0]._replace(gradient_norm=float("inf"))
    with pytest.raises(NonFiniteLoss, match="norm inf"):
        Health(False, 10).check([row], 1, 16, 16)


def test_parameters_that_overflow_stop_too():
    row = updates(1.0)[0]._replace(parameter_norm=float("inf"))
    with pytest.raises(NonFiniteLoss, match="the new parameters' inf at step 1"):
        Health(False, 10).check([row], 1, 16, 16)


def test_skipping_bears_max_skipped_in_a_row():
    health = Health(True, 2)
    health.check(updates(NAN, NAN, 1, NAN, NAN), 5, 80, 16)
    with pytest.raises(NonFiniteLoss, match=r"step 6, on examples 80 to 95 of the stream, number 3 in a row.*above 2"):
        health.check(updates(NAN, NAN, 1, NAN, NAN, NAN), 6, 96, 16)


def test_the_row_goes_on_over_lines_and_resumptions():
    health = Health(True, 2)
    health.check(updates(NAN), 1, 16, 16)
    health.line_written()
    health.check(updates(NAN), 2, 32, 16)
    assert health.in_a_row == 2
    with pytest.raises(NonFiniteLoss, match=r"at step 3, .* number 3 in a row"):
        Health(True, 2, in_a_row=2, checked=1).check(updates(NAN, NAN), 3, 48, 16)
    resumed = Health(True, 2, in_a_row=1, checked=1)
    resumed.check(updates(NAN, NAN), 3, 48, 16)
    assert resumed.in_a_row == 2
    Health(False, 2, in_a_row=2, checked=2).check(updates(NAN, NAN, 1), 3, 48, 16)  # from now on it stops


def test_updates_are_counted_once():
    """A checkpoint between two lines looks at the same updates again."""
    health = Health(True, 2)
    for _ in range(3):
        health.check(updates(NAN, NAN), 2, 32, 16)
    assert health.in_a_row == 2
