"""A system of two parts through the one loop: its path in closed form, over devices, killed and resumed."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from score_sde.devices.parallel import Pmap, Sharded
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from score_sde.training.step import summarize
from tests.processes import ROOT, environment
from tests.systems import game

STEPS = 12
WAYS = {
    "pmap on 1": lambda d: Pmap(d[:1]),
    "pmap on 8": lambda d: Pmap(d),
    "sharded on 8, 4 of them fsdp": lambda d: Sharded(4, d),
}


def run(folder: pathlib.Path, strategy=None, **changes):
    return train(game.experiment(strategy, **changes), Workdir(folder), generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


def numbers(state) -> np.ndarray:
    return np.concatenate([np.asarray(state.params[part]["w"]) for part in ("one", "other")])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("game") / "run"
    return run(folder), folder


@pytest.mark.parametrize("way", WAYS)
def test_both_players_take_the_closed_forms_path(way, tmp_path):
    built = game.experiment()
    expected = game.path(built, STEPS)[-1]
    state = run(tmp_path / "run", WAYS[way](jax.devices()))
    np.testing.assert_allclose(numbers(state), expected, rtol=2e-6)
    assert np.abs(expected - game.path(built, 0)[-1]).min() > 0.05
    assert {int(leaf) for leaf in jax.tree.leaves(state.optimizer)} == {STEPS}


def test_microbatches_give_the_same_path(tmp_path):
    state = run(tmp_path / "run", training__microbatches=2)
    np.testing.assert_allclose(numbers(state), game.path(game.experiment(), STEPS)[-1], rtol=2e-6)


def test_the_log_tells_terms_norms_and_rates_of_the_parts(alone):
    """Against the closed form, means over the two updates of a line; the rate is each part's own."""
    _, folder = alone
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    path = game.path(game.experiment(), STEPS)
    assert [line["step"] for line in lines] == [*range(2, STEPS + 1, 2)]
    for line, (first, second) in zip(lines, zip(path[:-1:2], path[1::2])):
        assert line["learning_rate/one"] == pytest.approx(0.1) and line["learning_rate/other"] == pytest.approx(0.2)
        other = [0.5 * game.C * (z[2:] ** 2).sum() - game.B * (z[:2] * z[2:]).sum() for z in (first, second)]
        assert line["other"] == pytest.approx(np.mean(other), rel=1e-5)
        assert line["loss"] == pytest.approx(line["one"] + line["other"], rel=1e-5)
        norms = [np.linalg.norm(game.C * z[2:] - game.B * z[:2]) for z in (first, second)]
        assert line["gradient_norm/other"] == pytest.approx(np.mean(norms), rel=1e-5)
        total = line["gradient_norm"]
        assert total >= max(line["gradient_norm/one"], line["gradient_norm/other"])


def test_every_part_has_its_average_and_its_optimizer_in_the_checkpoint(alone):
    state, _ = alone
    assert set(state.params) == set(state.averages["warmup"]) == set(state.optimizer) == {"one", "other"}
    assert np.abs(np.asarray(state.averages["warmup"]["one"]["w"]) - np.asarray(state.params["one"]["w"])).max() > 1e-3


def test_killed_and_resumed_is_bitwise_the_uninterrupted_game(alone, tmp_path):
    """SIGKILL between two checkpoints, in a process of its own; then the same command to the end."""
    env = environment(tmp_path / "cache", devices=8)
    command = [sys.executable, "-m", "tests.systems.game", str(tmp_path / "run")]
    first = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (tmp_path / "run" / "checkpoints" / "4" / "manifest.json").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "run" / "checkpoints" / str(STEPS)).exists()
    subprocess.run(command, cwd=ROOT, env=env, check=True, stderr=subprocess.DEVNULL)
    again, (state, whole) = run(tmp_path / "run"), alone  # complete: merely read
    np.testing.assert_array_equal(numbers(again), numbers(state))
    own, other = (
        [{k: v for k, v in json.loads(line).items() if k not in ("images_per_second", "input_wait")}
         for line in (place / "metrics.jsonl").read_text().splitlines()]
        for place in (tmp_path / "run", whole)
    )  # fmt: skip
    assert own == other


def test_a_term_may_not_have_a_name_of_the_log():
    ones = np.ones(4, np.float32)
    with pytest.raises(ValueError, match=r"a term of the loss is called 'loss', .*: rename it"):
        summarize(ones, 0.5 * ones, {"kl": ones, "loss": ones})
