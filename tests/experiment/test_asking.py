"""Samples guided by other runs and by functions: what the score is, how it is counted, kept and refused."""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import likelihood, modes
from score_sde.config import default
from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.asking import log_prob
from score_sde.experiment.generation import Generator
from score_sde.sde import denoiser
from score_sde.storage.workdir import Workdir
from tests.gradients import shaken_state
from tests.systems.test_classifier import OPTIONS, Linear
from tests.tiny import tiny_config, trained_run
from tests.training.small import OneConvolution

LABELLED: dict[str, Any] = {"data__condition": ("label",)}
HERE = "tests.experiment.test_asking"


class Told(nn.Module):
    """x times a number, plus one for each label; in forms of convolution that it has not got."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        told = 0.0 if condition is None else nn.Embed(11, 1, name="Embed_label")(condition["label"])[:, None, None, :]
        return nn.Dense(x.shape[-1])(x) + told


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Told() if s.labels else OneConvolution())
        patch.setitem(objects.NETWORKS, "wideresnet", lambda c, s: Linear())
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one step, by name: told labels or not, another seed, a classifier."""
    folder = tmp_path_factory.mktemp("runs")

    def make(name, seed=42, **changes):
        config = tiny_config(network__dropout=0.0, **changes)
        config.seed = seed
        return str(trained_run(folder / name, config).path)

    return {
        "plain": make("plain"),
        "told": make("told", **LABELLED),
        "weak": make("weak", seed=1),
        "weak_told": make("weak_told", seed=1, **LABELLED),
        "classifier": make("classifier", **OPTIONS),
        "other_sde": make("other_sde", sde__beta_max=10.0),
        "other_shape": make("other_shape", data__image_size=8),
    }


def asked(label: bool = True, frozen: dict[str, str] | None = None, **changes):
    config = tiny_config(network__dropout=0.0, **(LABELLED if label else {}), **changes)
    config.frozen.update(frozen or {})
    return build(config)


def score_and(experiment, condition):
    """The guided score, the plain one, x and t."""
    params, system = shaken_state(experiment).params, experiment.score_system
    guided = experiment.drawing.guiding.score(system, params, condition)
    x = jax.random.normal(jax.random.key(0), (3, *experiment.shape))
    return jax.jit(guided), jax.jit(system.score(params, condition)), x, jnp.float32(0.4)


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("names", [("guide", "weak"), ("guide", "weak_told")])
def test_autoguidance_is_between_the_weaker_runs_score_and_the_own(runs, label, names):
    part, run = names
    if run == "weak_told" and not label:
        with pytest.raises(UsageError, match=r"weak_told is told labels and this run is not"):
            asked(label, {part: runs[run]}, guidance__scale=2.5)
        return
    experiment = asked(label, {part: runs[run]}, guidance__scale=2.5)
    condition = {"label": jnp.array([3, 3, 5])} if label else {}
    guided, plain, x, t = score_and(experiment, condition)
    other = experiment.drawing.parts["guide"]
    u = jax.jit(other.experiment.system.score(other.params, condition))(x, t)
    np.testing.assert_allclose(guided(x, t), u + 2.5 * (plain(x, t) - u), rtol=1e-4, atol=1e-5)
    assert np.abs(u - plain(x, t)).max() > 0.1
    neutral = asked(label, {part: runs[run]})
    found, plain, x, t = score_and(neutral, condition)
    np.testing.assert_array_equal(found(x, t), plain(x, t))


@pytest.mark.parametrize("label", [True, False])
def test_a_classifier_adds_gamma_times_its_gradient(runs, label):
    experiment = asked(label, {"classifier": runs["classifier"]}, guidance__classifier_scale=3.0)
    condition = {"label": jnp.array([3, 3, 5])}
    guided, plain, x, t = score_and(experiment, condition)
    other = experiment.drawing.parts["classifier"]
    logits = other.experiment.system.logits(other.params)
    of_class = lambda x: jax.nn.log_softmax(logits(x, t))[jnp.arange(3), condition["label"]].sum()
    slope = jax.jit(jax.grad(of_class))(x)
    np.testing.assert_allclose(guided(x, t), plain(x, t) + 3 * slope, rtol=1e-4, atol=1e-5)
    assert np.abs(slope).max() > 1e-3


def near_grey(x0):
    return -8 * jnp.mean((x0 - 0.3) ** 2, (1, 2, 3))


def test_a_function_guides_through_the_denoiser(runs):
    experiment = asked(False, guidance__log_prob=f"{HERE}.near_grey", guidance__log_prob_scale=2.0)
    guided, plain, x, t = score_and(experiment, {})
    slope = jax.jit(jax.grad(lambda x: near_grey(denoiser(experiment.sde, plain)(x, t)).sum()))(x)
    np.testing.assert_allclose(guided(x, t), plain(x, t) + 2 * slope, rtol=1e-4, atol=1e-5)
    assert np.abs(slope).max() > 1e-3


def test_all_of_them_compose_within_an_interval_and_are_counted(runs):
    frozen = {"guide": runs["weak_told"], "classifier": runs["classifier"]}
    all_of_them: dict[str, Any] = {
        "guidance__scale": 2.0,
        "guidance__classifier_scale": 1.0,
        "guidance__log_prob": f"{HERE}:near_grey",
        "guidance__threshold": "static",
    }
    draw = lambda **changes: Generator(built := asked(True, frozen, sampling__label="3", **changes))(
        shaken_state(built).params, 4, show=False
    )
    plain, whole = draw(), draw(**all_of_them)
    none = draw(**{**all_of_them, "guidance__interval": (1e8, 1e9)})
    some = [
        draw(**all_of_them, guidance__interval=(0.5, 5.0), guidance__interval_by=by) for by in ("step", "evaluation")
    ]
    assert (whole.evaluations, none.evaluations) == (3 * plain.evaluations, plain.evaluations)
    assert plain.evaluations < some[0].evaluations == some[1].evaluations < whole.evaluations
    np.testing.assert_allclose(some[0].x.astype(int), some[1].x.astype(int), atol=2)
    thresholded = draw(guidance__threshold="static")
    np.testing.assert_allclose(none.x.astype(int), thresholded.x.astype(int), atol=2)
    assert (whole.x != thresholded.x).any()


@pytest.mark.parametrize("solver", ["heun", "rk45", "dpm_solver_pp_2m", "adaptive_sde", "reverse_diffusion"])
def test_every_kind_of_solver_takes_them(runs, solver):
    """Against the same parts as constants of the program; a function of seed and number alone."""
    frozen = {"guide": runs["weak"], "classifier": runs["classifier"]}
    scales: dict[str, Any] = {"guidance__scale": 1.5, "guidance__classifier_scale": 1.0, "sampling__solver": solver}
    loose = {"sampling__rtol": 1e-2, "sampling__atol": 1e-2} if solver == "rk45" else {}
    experiment = asked(False, frozen, **scales, **loose)
    params = shaken_state(experiment).params
    found = Generator(experiment)(params, 4, show=False)
    assert found.condition["label"].shape == (4,) and found.finite.all()
    experiment.config.sampling.batch_size = 2
    np.testing.assert_allclose(Generator(experiment)(params, 4, show=False).x.astype(int), found.x.astype(int), atol=2)


def test_the_command_line_draws_by_other_runs_and_training_knows_nothing_of_them(runs, tmp_path):
    config = tiny_config(network__dropout=0.0, training__num_steps=2)
    workdir = Workdir(tmp_path / "run")
    assert modes.train(config, workdir) == 0
    config.frozen.update(guide=runs["weak"], classifier=f"{runs['classifier']}@1:raw")
    config.guidance.update(scale=2.0, classifier_scale=1.5)
    config.sampling.label = "7"
    assert modes.sample(config, workdir) == 0
    name = "ancestral-4-seed0-label_7-guided2_by_weak-classifier1.5"
    settings = json.loads((workdir.samples / name / "settings.json").read_text())
    assert {part: (found["step"], found["average"]) for part, found in settings["frozen"].items()} == {
        "guide": (1, "warmup"),
        "classifier": (1, "raw"),
    }
    with np.load(workdir.samples / name / "samples.npz") as arrays:
        assert arrays["label"].tolist() == [7] * 8
    with pytest.raises(UsageError, match="a guided model has no likelihood"):
        likelihood.likelihood(config, workdir)
    config.training.num_steps = 3  # what it is resumed with asks for nothing of them
    assert modes.train(config, workdir) == 0
    assert "frozen" not in workdir.record()  # pyright: ignore[reportOperatorIssue]
    config.frozen.update(guide=runs["plain"], classifier="")
    config.guidance.update(scale=1.0, classifier_scale=0.0)
    config.sampling.label = ""
    assert modes.sample(config, workdir) == 0


def test_a_run_may_be_its_own_guide_at_an_earlier_step(tmp_path):
    config = tiny_config(network__dropout=0.0, training__num_steps=2, checkpoint__every=1, checkpoint__keep=9)
    workdir = Workdir(tmp_path / "run")
    assert modes.train(config, workdir) == 0
    config.frozen.guide = f"{workdir.path}@1"
    config.guidance.scale = 2.0
    config.training.num_steps = 3
    assert modes.train(config, workdir) == 0  # its config.json names itself from now on
    assert modes.sample(config, workdir) == 0


def whole_numbers(x0):
    return jnp.sum(x0, (1, 2, 3)).astype(jnp.int32)


def one_number(x0):
    return jnp.sum(x0)


def by_numpy(x0):
    return np.sum(np.asarray(x0), (1, 2, 3))


def counted(x0):
    return jnp.sum(jnp.round(x0), (1, 2, 3))


def infinite(x0):
    return jnp.log(jnp.min(x0, (1, 2, 3)))


FUNCTIONS = [
    ("near_grey.", "is unknown: name a function of jax.numpy"),
    ("nothing", "cannot be imported"),
    ("HERE", "is a str"),
    ("whole_numbers", r"gives int32 \[4\] of x_0 \[4, 8, 8, 1\], not one real number for each"),
    ("one_number", r"gives float32 \[\] of x_0"),
    ("by_numpy", r"cannot be differentiated in x_0 \(TracerArrayConversionError"),
    ("counted", "has the gradient 0 on all of 4 random examples"),
    ("infinite", r"gives values that are not finite"),
]


@pytest.mark.parametrize(("name", "message"), FUNCTIONS)
def test_functions_that_cannot_guide_are_refused_where_they_are_named(name, message):
    with pytest.raises(UsageError, match=message):
        asked(False, guidance__log_prob=f"{HERE}.{name}")
    assert log_prob(f"{HERE}.near_grey", (8, 8, 1)) is near_grey


REFUSED = [
    (
        "guide",
        "classifier",
        {"guidance__scale": 2.0},
        r"is a run of system\.name='classifier', which .*: name one of .*'score'",
    ),
    ("classifier", "plain", {"guidance__classifier_scale": 1.0}, r"is a run of system\.name='score'"),
    ("guide", "other_sde", {"guidance__scale": 2.0}, "has another noise process than this run"),
]


@pytest.mark.parametrize(("part", "run", "changes", "message"), REFUSED)
def test_runs_that_cannot_guide_are_refused(runs, part, run, changes, message):
    with pytest.raises(UsageError, match=message):
        asked(False, {part: runs[run]}, **changes)


def test_a_guide_of_another_shape_is_refused(runs, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 4, 1), np.uint8))
    small = {"data__image_size": 4, "data__name": "array", "data__path": str(tmp_path / "x.npy")}
    with pytest.raises(UsageError, match=r"frozen\.guide=.* bytes of shape \(8, 8, 1\), and this run's .*\(4, 4, 1\)"):
        asked(False, {"guide": runs["plain"]}, guidance__scale=2.0, network__attn_resolutions=(), **small)


def test_a_label_that_the_classifier_does_not_know_is_refused(runs):
    with pytest.raises(UsageError, match=r"sampling\.label=10 is no class: the data have 10"):
        asked(False, {"classifier": runs["classifier"]}, guidance__classifier_scale=1.0, sampling__label="10")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guidance__classifier_scale": 1.0}, r"guidance\.classifier_scale=1\.0 asks for a classifier"),
        ({"guidance__log_prob_scale": 2.0}, r"guidance\.log_prob_scale=2\.0 has no effect without guidance\.log_prob"),
        ({"guidance__log_prob": "a.b", "sampling__reference": True}, "the official sampler has no such guidance"),
        ({"frozen__classifier": "runs/a", "sampling__label": "3"}, r"sampling\.label='3' has no effect without labels"),
    ],
)
def test_what_means_nothing_is_refused(changes, message):
    assert default().guidance.classifier_scale == 0
    with pytest.raises(UsageError, match=message):
        validate(tiny_config(**changes))
