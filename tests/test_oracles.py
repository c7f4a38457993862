"""Runs of minutes against what is known of their data: pytest -m oracles, once after a change of the mathematics."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.oracles


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_trained_networks_likelihood_of_a_field_is_near_the_closed_form(tmp_path):
    """To 0.02 nats per dimension, of 64 held-out fields; 9 minutes on two cores."""
    run("benchmarks/field.py", "--write", str(tmp_path / "field.npz"))
    command = ["launch.py", "--config=configs/field.py", f"--workdir={tmp_path / 'run'}"]
    command.append(f"--config.data.path={tmp_path / 'field.npz'}")
    run(*command)
    run(*command, "--mode=likelihood")
    run("benchmarks/field.py", "--run", str(tmp_path / "run"), "--max", "0.02")


def test_samples_are_of_the_class_that_was_asked(tmp_path):
    """By a classifier of real digits, 90 % of 1,000; 5 minutes on two cores."""
    pytest.importorskip("sklearn")
    command = ["launch.py", "--config=configs/digits_classes.py", f"--workdir={tmp_path / 'run'}"]
    run(*command)
    run(*command, "--mode=sample", "--config.sampling.label=each", "--config.sampling.num_samples=1000")
    drawn = tmp_path / "run" / "samples" / "ancestral-50-seed0-label_each" / "samples.npz"
    run("benchmarks/classes.py", str(drawn), "--min", "0.9")
