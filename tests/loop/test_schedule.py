"""Calls end on every boundary, cover every update once, and do not depend on where a run was interrupted."""

import pytest

from score_sde.loop.schedule import schedule
from tests.tiny import tiny_config

FIELDS = {"training__num_steps": 37, "training__steps_per_call": 10, "training__batch_size": 16}
EVERY = {"logging__every": 6, "checkpoint__every": 15, "logging__samples_every": 0, "evaluation__every": 9}


def ends(calls) -> list[int]:
    found, step = [], 0
    for call in calls:
        step += call.steps
        found.append(step)
    return found


def test_calls_end_on_every_boundary_and_nowhere_else_but_when_full():
    calls = list(schedule(tiny_config(**FIELDS, **EVERY), 0, 0))
    assert ends(calls) == [6, 9, 12, 15, 18, 24, 27, 30, 36, 37]
    assert [call.first for call in calls] == [16 * end for end in [0, *ends(calls)[:-1]]]
    assert {call.size for call in calls} == {16}


def test_without_boundaries_calls_are_full():
    config = tiny_config(**FIELDS, **dict.fromkeys(EVERY, 1000) | {"logging__samples_every": 0})
    assert ends(schedule(config, 0, 0)) == [10, 20, 30, 37]


@pytest.mark.parametrize("step", range(37))
def test_a_resumed_run_meets_the_same_boundaries(step):
    """From any step on, at a position of its own (batches may have had another size before)."""
    config = tiny_config(**FIELDS, **EVERY)
    calls = list(schedule(config, step, 1000))
    boundaries = {6, 9, 12, 15, 18, 24, 27, 30, 36, 37}
    assert boundaries - set(range(step + 1)) <= {step + end for end in ends(calls)}
    assert calls[0].first == 1000
    assert sum(call.steps for call in calls) == 37 - step


def test_a_complete_run_has_no_calls():
    assert list(schedule(tiny_config(**FIELDS, **EVERY), 37, 0)) == []
