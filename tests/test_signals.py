"""Signals that ask a program to end: collected, later ones obeyed, ignored ones left alone, a closed terminal borne."""

import os
import pathlib
import pty
import signal
import subprocess
import sys
import time

import pytest

from score_sde import signals
from score_sde.signals import ENDING, Stopped, collected

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize("signum", ENDING)
def test_a_signal_is_collected_and_an_echo_of_it_is_not_a_second_one(signum):
    before = signal.getsignal(signum)
    with collected() as caught:
        assert caught.signum == 0
        os.kill(os.getpid(), signum)
        os.kill(os.getpid(), signum)
        assert caught.signum == signum
    assert signal.getsignal(signum) == before
    error = Stopped(signum, "step 5")
    assert error.code == {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}[signum.name]
    assert str(error) == f"stopped by {signum.name} after step 5; the same command resumes"


def test_a_later_one_is_obeyed(monkeypatch):
    """As before, which of a shell's background job would be to ignore it."""
    monkeypatch.setattr(signals, "ECHO", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), collected():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            time.sleep(5)  # it is sent to the process, of which another thread may be the one that is told
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collected() as caught:
            signal.raise_signal(signal.SIGHUP)
            assert caught.signum == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSED = """
import pathlib, sys, time
from score_sde.signals import collected

with collected() as caught:
    print("ready", flush=True)
    while not caught.signum:
        time.sleep(0.01)
    print("a line", file=sys.stderr, flush=True)
    print("another", flush=True)
    pathlib.Path(sys.argv[1]).write_text(str(caught.signum))
"""


def test_a_closed_terminal_takes_nothing_with_it(tmp_path):
    """Who speaks to a terminal that is gone gets an error, which would come before the checkpoint."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "end")]
    process = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while not said.endswith(b"\n"):  # its write is done only then: a terminal closed within it is an error of its own
        said += os.read(ours, 100)
    assert said == b"ready\r\n"
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # the session has no terminal of its own here, of which the kernel would tell it
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "end").read_text() == str(int(signal.SIGHUP))
