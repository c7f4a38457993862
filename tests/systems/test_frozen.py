"""Parts of other runs: restored by name, recorded, checked by what they hold, never written."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build, objects
from score_sde.experiment.frozen import parse
from score_sde.loop.loop import train
from score_sde.storage.workdir import Workdir
from tests.systems import game
from tests.tiny import tiny_config
from tests.training.small import OneConvolution


@dataclasses.dataclass(frozen=True)
class Student:
    """A number that learns the mean over its teacher's kernel, from twice that mean."""

    parts: tuple[str, ...] = ("student",)
    frozen: tuple[str, ...] = ("teacher",)

    @staticmethod
    def mean(frozen):
        return frozen["teacher"]["score"]["Conv_0"]["kernel"].mean()

    def init(self, key, frozen):
        return {"student": {"w": 2 * self.mean(frozen)}}

    def losses(self, params, view, keys, x0, condition, u, training=True):
        distance = (params["student"]["w"] - self.mean(view.frozen)) ** 2
        return jnp.broadcast_to(distance, len(x0)), {}


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: OneConvolution())
        yield


def teach(folder, steps: int, **changes) -> None:
    config = tiny_config(training__num_steps=steps, checkpoint__every=2, **changes)
    train(build(config), Workdir(folder), generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    teach(folder, 2)
    return folder


@pytest.fixture
def own(teacher, tmp_path):
    """A copy of the teacher's run that may be changed."""
    shutil.copytree(teacher, tmp_path / "teacher")
    return tmp_path / "teacher"


def student(run, workdir=None, **changes) -> Experiment:
    config = tiny_config(training__steps_per_call=2, **changes)
    config.frozen.teacher = str(run)
    built = build(config, workdir.record() if workdir else None, system=lambda c, s, drawing, frozen: Student())
    return dataclasses.replace(built, optimizers={"student": game.GradientDescent(0.25)})  # pyright: ignore[reportArgumentType]


def learn(run, workdir, **changes):
    return train(student(run, workdir, **changes), workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


def kernel(experiment: Experiment) -> float:
    return float(np.mean(experiment.frozen_params["teacher"]["score"]["Conv_0"]["kernel"]))


def test_a_student_starts_at_its_teacher_and_halves_the_distance_in_every_update(teacher, tmp_path):
    """On 8 devices, frozen parts beside the state: m (1 + 2^-k), m the teacher's mean of its averaged kernel."""
    workdir = Workdir(tmp_path / "student")
    built = student(teacher)
    mean = kernel(built)
    state = learn(teacher, workdir)
    np.testing.assert_allclose(float(state.params["student"]["w"]), mean * (1 + 0.5**12), rtol=1e-6)
    record = json.loads(workdir.config.read_text())["frozen"]["teacher"]
    assert record == built.frozen["teacher"].record.to_json()
    assert (record["step"], record["average"], len(record["checksum"])) == (2, "warmup", 64)
    written = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    assert not any("teacher" in name for name in written)


def test_step_and_average_may_be_named(teacher):
    means = {name: kernel(student(f"{teacher}{name}")) for name in ("", "@2", ":raw", "@2:warmup")}
    assert means[""] == means["@2"] == means["@2:warmup"] != means[":raw"]
    assert parse("frozen.teacher", "runs/a@7:power_0.05") == ("runs/a", 7, "power_0.05")
    assert parse("frozen.teacher", "runs/a") == ("runs/a", None, "")


def test_what_is_resumed_has_the_same_teacher_though_that_has_learnt_more(own, tmp_path):
    workdir = Workdir(tmp_path / "student")
    learn(own, workdir, training__num_steps=6)
    teach(own, 4)
    assert kernel(student(own)) != kernel(student(own, workdir))
    state = learn(own, workdir)
    np.testing.assert_allclose(
        float(state.params["student"]["w"]), kernel(student(f"{own}@2")) * (1 + 0.5**12), rtol=1e-6
    )


def test_a_teacher_may_move(own, tmp_path):
    workdir = Workdir(tmp_path / "student")
    learn(own, workdir, training__num_steps=6)
    own.rename(tmp_path / "elsewhere")
    state = learn(tmp_path / "elsewhere", workdir)
    assert int(state.step) == 12
    history = [json.loads(line) for line in workdir.history.read_text().splitlines()]
    assert history[-1]["frozen"]["teacher"]["run"] == str(tmp_path / "elsewhere")


def test_a_teacher_that_has_changed_since_is_refused_by_name(own, tmp_path):
    workdir = Workdir(tmp_path / "student")
    learn(own, workdir, training__num_steps=6)
    shutil.rmtree(own)
    teach(own, 2, optimizer__learning_rate=0.5)
    with pytest.raises(
        UsageError, match=rf"frozen\.teacher={own} has changed since this run began, with step 2 of {own}"
    ):
        student(own, workdir)
    with pytest.raises(UsageError, match="was begun with frozen"):  # without a look at the run's record
        train(student(own), workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


def test_what_cannot_be_a_part_is_refused(teacher, tmp_path):
    with pytest.raises(UsageError, match=r"frozen\.teacher=nowhere holds no trained run: train it first"):
        student("nowhere")
    with pytest.raises(UsageError, match=r"checkpoint .*/7 is missing: choose from the finished ones, 2"):
        student(f"{teacher}@7")
    with pytest.raises(UsageError, match=r"average 'constant' is not stored"):
        student(f"{teacher}:constant")
    with pytest.raises(
        UsageError, match=r"its data are bytes of shape \(8, 8, 1\), and this run's bytes of shape \(4, 4, 1\)"
    ):
        np.save(tmp_path / "x.npy", np.zeros((4, 4, 4, 1), np.uint8))
        small = {"data__image_size": 4, "network__attn_resolutions": ()}
        student(teacher, data__name="array", data__path=str(tmp_path / "x.npy"), **small)
    with pytest.raises(UsageError, match=r"frozen\.teacher is empty, and the system asks for it"):
        student("")
    config = tiny_config()
    config.frozen.teacher = str(teacher)
    with pytest.raises(UsageError, match=r"frozen\.teacher='.*' is not asked for by system\.name='score'"):
        build(config)
