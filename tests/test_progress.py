"""A line now and then where nobody watches, a bar on a terminal."""

import sys

import pytest

from score_sde import progress
from score_sde.progress import Progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_with_rate_and_remaining_time(clock, capsys):
    with Progress("training", 1000, "steps") as p:
        clock.now += 5
        p.update(10)
        assert capsys.readouterr().err == ""  # too early
        clock.now += 15
        p.update(90, "loss 0.5")
        assert capsys.readouterr().err == "training 100/1000, 5 steps/s, 180 s left, loss 0.5\n"
        clock.now += 9
        p.update(1)
        assert capsys.readouterr().err == ""  # the last line was 9 seconds ago
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_rate_counts_what_was_done_here(clock, capsys):
    """After resuming at 500 of 1,000."""
    with Progress("training", 1000, "steps", done=500) as p:
        clock.now += 20
        p.update(100)
    assert capsys.readouterr().err == "training 600/1000, 5 steps/s, 80 s left\n"


def test_without_progress_the_remaining_time_is_unknown(clock, capsys):
    with Progress("sampling", 10, "samples") as p:
        clock.now += 20
        p.update(0)
    assert capsys.readouterr().err == "sampling 0/10, 0 samples/s, inf s left\n"


def test_silence(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("training", 10, "steps", show=False) as p:
        clock.now += 100
        p.update(5, "note")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("training", 10, "steps", done=2) as p:
        p.update(3, "loss 0.5")
        p.update(5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\r" in captured.err
    assert captured.err.startswith("\rtraining:  20%")
    assert "10/10" in captured.err
    assert "loss 0.5" in captured.err
