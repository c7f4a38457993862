"""A guided teacher: one batch of two is u + lambda (c - u) of two evaluations; imported and conditional ones teach."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.teaching import taught
from score_sde.storage.workdir import Workdir
from score_sde.systems import Teacher
from score_sde.training.step import View
from tests.tiny import tiny_config, trained_run
from tests.training.small import Labelled


@pytest.fixture(scope="module", autouse=True)
def labelled_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Labelled())
        yield


def conditional(**changes):
    config = tiny_config(data__condition=("label",), sde__name="cosine", parametrization__prediction="velocity")
    config.network.label_dropout = 0.1
    config.sampling.times = "uniform"
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


def student_config(run, **changes):
    config = conditional(system__name="distilled", distillation__steps=(2,), frozen__teacher=str(run), **changes)
    config.sampling.update(solver="few_step", num_steps=2)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "teacher", conditional()).path


def test_a_guided_teacher_is_two_evaluations_in_one_batch(run):
    experiment = build(conditional(), Workdir(run).record())
    system, params = experiment.score_system, experiment.init_params()
    x, t, label = jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jnp.linspace(0.2, 0.9, 4), jnp.arange(4)
    of = lambda label: system.denoiser(params, {"label": label})(x, t)
    c, u = of(label), of(jnp.full(4, system.dropped.null))
    assert np.abs(c - u).max() > 0.1
    guided = Teacher(system, 2.5).denoiser(params, {"label": label})(x, t)
    np.testing.assert_allclose(guided, u + 2.5 * (c - u), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(Teacher(system).denoiser(params, {"label": label})(x, t), c)
    scores = [system.score(params, {"label": one})(x, t) for one in (label, jnp.full(4, system.dropped.null))]
    by_score = Teacher(system, 2.5).score(params, {"label": label})(x, t)
    np.testing.assert_allclose(by_score, scores[1] + 2.5 * (scores[0] - scores[1]), rtol=1e-4, atol=1e-4)


def test_a_student_learns_what_its_guided_teacher_does(run):
    """Its loss is that of a teacher which had the guided denoiser of its own, and not that of the plain one."""
    plain, guided = (build(student_config(run, teacher__scale=scale)) for scale in (1.0, 3.0))
    params, batch = plain.init_params(), jax.tree.map(lambda x: x[0], plain.stream.batches(0, 8, 1))
    losses = [e.loss(params, View(jnp.int32(0), {}, e.frozen_params), batch)[0] for e in (plain, guided)]
    assert np.abs(losses[0] - losses[1]).max() > 0.1
    inner = guided.system

    @dataclasses.dataclass(frozen=True)
    class Own:
        def denoiser(self, params, condition, **execution):
            system = inner.teacher.system
            null = {**condition, "label": jnp.full_like(condition["label"], system.dropped.null)}
            c, u = system.denoiser(params, condition), system.denoiser(params, null)
            return lambda x, t: u(x, t) + 3 * (c(x, t) - u(x, t))

    other = dataclasses.replace(guided, system=dataclasses.replace(inner, teacher=Own()))
    loss = other.loss(params, View(jnp.int32(0), {}, guided.frozen_params), batch)[0]
    np.testing.assert_allclose(losses[1], loss, rtol=1e-3)


def test_a_teacher_without_a_null_label_is_not_guided(tmp_path):
    run = trained_run(tmp_path / "run", conditional(network__label_dropout=0.0)).path
    with pytest.raises(UsageError, match=r"teacher\.scale=2\.0 is between a label and none, and frozen\.teacher=.*run"):
        build(student_config(run, teacher__scale=2.0, network__label_dropout=0.0))
    assert taught(student_config(run), None).scale == 1.0


def test_students_draw_the_classes_that_are_asked_for(run):
    experiment = build(student_config(run, sampling__label="3,5"))
    assert list(experiment.conditions(np.zeros((4, 2), np.uint32))["label"][:2]) in ([3, 3], [3, 5])
