"""Runs of minutes against what is known of their data: pytest -m oracles, once after a change of the mathematics."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from score_sde.data.sources import digits

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


def test_a_learned_prior_of_linear_latents_beats_the_best_standard_normal_one(tmp_path):
    """LSGM of the digits / 255 at d = 8: 15 nats of training digits, 14.396 by probabilistic PCA; two minutes.

    At t_0 = 1e-4, of 100 draws of every digit.
    """
    found = tmp_path / "digits.npz"
    data = digits(8)
    flat = {"train": data.train, "test": data.held_out}
    np.savez(found, **{name: np.asarray(x, np.float32).reshape(len(x), -1) / 255 for name, x in flat.items()})
    command = ["launch.py", "--config=configs/digits_lsgm.py", f"--workdir={tmp_path / 'run'}"]
    command += ["--config.data.name=array", f"--config.data.path={found}", "--config.data.kind=real"]
    command += ["--config.data.shape=(64,)", "--config.data.mean=(0.0,)", "--config.data.std=(1.0,)"]
    command += ["--config.data.uniform_dequantization=False", "--config.data.centered=True"]
    command += ["--config.evaluation.final_samples=0"]
    run(*command)
    for split, least in (("train", 15.0), ("held_out", 13.4)):
        run(*command, "--mode=likelihood", f"--config.likelihood.split={split}", "--overwrite")
        summary = json.loads((tmp_path / "run" / "likelihood" / "summary.json").read_text())
        assert -summary["nats"]["mean"] > least, summary["nats"]
