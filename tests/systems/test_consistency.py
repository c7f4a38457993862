"""Consistency models as a system: teachers, targets, averages; resumed, over devices, by examples; what is refused."""

import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.cli.main import main
from score_sde.config.validation import validate
from score_sde.data.stream import Batch
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.objectives.consistency import l2
from score_sde.objectives.denoising import EDM, LogNormalTimes
from score_sde.objectives.levels import Neighbours
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.parametrization import Boundary, Denoiser, Parametrization, Preconditioned, log_sigma_label
from score_sde.sde import karras
from score_sde.solvers.few_step import euler_step, renoised
from score_sde.storage.workdir import Workdir
from score_sde.systems import Score, Teacher
from score_sde.systems.consistency import Continuous, Paired, TrigFlow
from score_sde.training.curriculum import Unchanged
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import View, initial_state, make_train_step
from tests.systems.learning import learn, leaves
from tests.tiny import tiny_config
from tests.training.small import Shallow

KINDS = {
    "training": {"target": "scheduled", "curriculum": "root", "last": 10},
    "improved": {"levels": "log_normal", "metric": "pseudo_huber", "over_gap": True, "curriculum": "doubling"},
    "tuning": {"levels": "share", "metric": "pseudo_huber", "huber": 0.03, "over_gap": True, "last": 8},
    "distillation": {"pair": "heun", "target": "warmup", "last": 17},
    "limit": {"levels": "limit"},
    "limit, teacher": {"levels": "limit", "pair": "euler"},
    "trigonometric": {"levels": "limit", "metric": "normalised", "tangent_warmup": 3},
}
"""One of each, as the section `consistency` says it."""
EDM_RUN = {
    "sde__name": "edm", "sde__sigma_max": 80.0, "parametrization__label": "log_sigma", "training__times": "log_normal",
    "training__t_min": 0.002, "sampling__t_min": 0.002, "sampling__times": "log_snr",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Shallow())
        yield


def configured(kind, teacher="", **changes):
    own = KINDS[kind]
    normalised = own.get("metric") == "normalised"
    prediction = "edm" if normalised else "boundary"
    fields = {"system__name": "consistency", "parametrization__prediction": prediction, "ema__decay": 0.9}
    fields |= {"sampling__solver": "few_step", "sampling__num_steps": 2}
    fields |= {} if normalised else {"training__weighting": "edm"}
    fields |= {"ema__averages": ("warmup", "scheduled")} if own.get("target") == "scheduled" else {}
    config = tiny_config(**EDM_RUN | fields)
    config.consistency.update(own)
    config.frozen.teacher = str(teacher) if own.get("pair", "data") != "data" else ""
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return config


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    edm = {"parametrization__prediction": "edm", "training__weighting": "edm", "training__num_steps": 2}
    modes.train(tiny_config(**EDM_RUN | edm), Workdir(folder))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_is_bitwise_the_uninterrupted_run(kind, teacher, tmp_path):
    """The curriculum looks at the number of all updates, so that is the same: what is lost is the last checkpoint."""
    config = configured(kind, teacher, training__num_steps=7)
    whole = learn(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "7")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")] == ["5"]
    for one, other in zip(leaves(whole), leaves(learn(config, tmp_path / "run")), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["training", "distillation", "trigonometric"])
def test_over_devices_and_in_microbatches(kind, teacher, tmp_path):
    devices, found = jax.devices(), []
    for i, (parts, way) in enumerate(((1, Pmap(devices[:1])), (2, Pmap(devices[:2])), (1, Sharded(4, devices)))):
        more = {"network__dropout": 0.0, "training__num_steps": 3, "training__microbatches": parts}
        found.append(leaves(learn(configured(kind, teacher, **more), tmp_path / str(i), way)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_do_not_depend_on_their_batch(kind, teacher):
    experiment = build(configured(kind, teacher))
    params = experiment.init_params()
    view = View(jnp.int32(5), dict.fromkeys(experiment.averages, params), experiment.frozen_params)
    batch = jax.tree.map(lambda x: x[0], experiment.stream.batches(0, 8, 1))
    loss = jax.jit(lambda batch: experiment.loss(params, view, batch)[0])
    order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    found = np.asarray(loss(batch))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[order], loss(jax.tree.map(lambda x: x[order], batch)))


def test_samples_depend_on_their_own_key_alone_and_need_no_teacher(teacher, tmp_path):
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    learn(configured("distillation", own, training__num_steps=2), tmp_path / "run")
    shutil.rmtree(own)
    record = Workdir(tmp_path / "run").record()
    experiment = build(configured("distillation", own), record, training=False)
    params = experiment.init_params()
    keys = example_keys(root_key(3), positions(0, 8))
    draw = jax.jit(lambda keys: experiment.draw(params, keys).x)
    order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    np.testing.assert_array_equal(np.asarray(draw(keys))[order], draw(keys[order]))
    times = jnp.array([80.0, ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7])
    f = experiment.system.denoiser(params)  # pyright: ignore[reportAttributeAccessIssue]
    direct = renoised(keys, f, experiment.sde, experiment.shape, times=times, t_min=0.002)
    np.testing.assert_allclose(draw(keys), direct.x, rtol=1e-4, atol=1e-5)
    assert experiment.draw(params, keys).evaluations == 2
    named = build(configured("distillation", own, sampling__nodes=(0.8,)), record, training=False)
    assert float(jnp.abs(jax.jit(lambda k: named.draw(params, k).x)(keys) - direct.x).max()) > 1e-3


def test_a_student_starts_at_its_teacher_and_goes_on_with_a_run(teacher):
    experiment = build(configured("distillation", teacher))
    jax.tree.map(np.testing.assert_array_equal, experiment.init_params(), experiment.frozen_params["teacher"])
    begun = build(configured("tuning", training__start_from=str(teacher)))
    found, fresh = begun.initial_state().params, begun.init_params()
    jax.tree.map(np.testing.assert_array_equal, found, experiment.frozen_params["teacher"])
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(fresh)))


def test_the_target_is_the_averages(teacher):
    """Of other parameters there: the gradient is of f(x_t, t) alone."""
    experiment = build(configured("training"))
    params = experiment.init_params()
    other = jax.tree.map(lambda p: p + 0.1, params)
    batch = jax.tree.map(lambda x: x[0], experiment.stream.batches(0, 8, 1))
    view = lambda target: View(jnp.int32(5), {"scheduled": target, "warmup": params}, {})
    at = lambda target: experiment.loss(params, view(target), batch)[0]
    assert float(jnp.abs(at(other) - at(params)).max()) > 1e-4
    mean = lambda target: at(target).mean()
    assert all((g == 0).all() for g in jax.tree.leaves(jax.grad(mean)(other)))


def test_there_is_no_score(teacher):
    experiment = build(configured("training"))
    with pytest.raises(UsageError, match="a consistency model leads from noise to an example and has no score"):
        experiment.score_of(experiment.init_params())


# Trained on a Gaussian N(M, V I)

M, V = 0.3, 0.16


class Line(nn.Module):
    """F = a(t) y + b(t): what a Gaussian's consistency function is of."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        h = nn.Dense(2)(jnp.tanh(nn.Dense(64, kernel_init=nn.initializers.normal(1.0))(2 * label[:, None])))
        return h[:, :1] * x + h[:, 1:]


class Exact(nn.Module):
    """The denoiser of N(M, V I) under EDM's SDE."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        unused = self.param("unused", nn.initializers.zeros, ())
        return M + V / (V + sigma[:, None] ** 2) * (x - M) + 0 * unused


FLOW = ((V + 0.002**2) / (V + 80.0**2)) ** 0.5
"""The gain of the exact function from T to t_min."""


def gain_of(kind, prediction, steps=8000, taught=False, **fields):
    """Of f(x, T) in x after so many updates of 256 examples."""
    common = {"shape": (8,), "image_shape": (8,), "process": karras(), "objective": None, "sampler": None}
    exact = Score(network=Exact(), parametrization=Parametrization(Denoiser(), log_sigma_label), **common)  # pyright: ignore[reportArgumentType]
    parts = {"network": Line(), "parametrization": Parametrization(prediction, log_sigma_label)}
    system = kind(teacher=Teacher(exact) if taught else None, **parts, **common, **fields)
    frozen = {"teacher": exact.init(root_key(0), {})} if taught else {}
    optimizers = {"score": Optimizer(learning_rate=3e-3, warmup=0, decay_steps=steps)}

    def loss(params, view, batch):
        keys = example_keys(root_key(2), batch.position)
        x0 = M + V**0.5 * normal(child(keys, Purpose.DEQUANTIZATION), (8,))
        u = jax.vmap(jax.random.uniform)(child(keys, Purpose.TIME))
        return *system.losses(params, view, keys, x0, {}, u)[:1], u, {}

    step = jax.jit(make_train_step(loss, optimizers, {}))
    position = positions(0, steps * 256).reshape(steps, 256, 2)
    params = system.init(root_key(1), {})
    state, _ = step(initial_state(params, optimizers, {}), frozen, Batch(np.zeros((steps, 256, 1)), position, {}))
    ends = system.denoiser(state.params)(jnp.array([[80.0] * 8, [-80.0] * 8]), jnp.float32(80))
    return float(ends[0, 0] - ends[1, 0]) / 160


@pytest.mark.oracles
@pytest.mark.parametrize(("steps", "taught"), [(5, False), (5, True), (17, False)])
def test_trained_on_a_gaussian_its_gain_is_the_biased_one(steps, taught):
    """Within 1 %: that of Euler's steps, which is not the flow's; in training as in distillation. A minute each."""
    pairs = {"step": euler_step, "levels": Neighbours(0.002), "curriculum": Unchanged(steps)}
    gain = gain_of(Paired, Boundary(0.5, 0.002), taught=taught, metric=l2, weighting=EDM(0.5), **pairs)
    levels = np.asarray(Neighbours(0.002).time(karras(), jnp.arange(steps + 1.0), jnp.float32(steps)))
    assert gain == pytest.approx(np.prod((V + levels[1:] * levels[:-1]) / (V + levels[1:] ** 2)), rel=0.01)
    assert abs(gain - FLOW) > 0.1 * FLOW


@pytest.mark.oracles
@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_trained_in_continuous_time_its_gain_is_the_flows(normalised, taught):
    """Within 3 %: neighbouring times have no bias in the limit. A minute each."""
    times = LogNormalTimes(-0.8, 1.6)
    if normalised:
        gain = gain_of(TrigFlow, Preconditioned(0.5), taught=taught, times=times, sigma_data=0.5, warmup=1000)
    else:
        even = lambda sde, t: t * (t**2 + 0.5**2)  # by angle, as the other: else the gain at much noise takes long
        steps = 8_000 if taught else 24_000  # an example's own tangent has its spread
        gain = gain_of(Continuous, Boundary(0.5, 0.002), steps, taught, times=times, weighting=even)
    assert gain == pytest.approx(FLOW, rel=0.03)


# What is refused


REFUSED = [
    ("training", {"parametrization__prediction": "noise"}, r"prediction='noise' is not the identity .* 'boundary'"),
    ("training", {"consistency__metric": "normalised"}, r"metric='normalised' does not go with .*levels='karras'"),
    ("limit", {"consistency__metric": "l1"}, r"metric='l1' does not go with .*'limit': choose 'l2' or 'normalised'"),
    ("trigonometric", {"parametrization__prediction": "boundary"}, r"has another angle .* set it to 'edm'"),
    ("training", {"ema__averages": ("warmup",)}, r"target='scheduled' is not among ema.averages=\('warmup',\)"),
    ("training", {"consistency__first": 11}, r"consistency.first=11 exceeds consistency.last=10"),
    ("training", {"teacher__scale": 2.0}, r"teacher.scale=2.0 has no effect on consistency.pair='data'"),
    ("training", {"data__augmentation": 0.1, "data__random_flip": False}, r"data.augmentation=0.1 has no effect"),
    ("limit", {"consistency__over_gap": True}, r"consistency.over_gap=True has no effect"),
    ("training", {"sampling__nodes": (1.0, 2.0)}, r"sampling.nodes=\(1.0, 2.0\) are the times of .* name 1 for"),
    ("training", {"sampling__nodes": (0.001,)}, r"sampling.nodes=\(0.001,\) must fall from T towards"),
    ("training", {"sampling__solver": "heun"}, r"sampling.solver='heun' asks for a score"),
    (
        "training",
        {"system__name": "score", "sampling__solver": "auto", "sampling__times": "uniform"},
        r"consistency.target is of consistency models alone",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_has_no_meaning_is_refused(kind, changes, words):
    with pytest.raises(UsageError, match=words):
        validate(configured(kind, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sde__sigma_max": 40.0}, r"has sde\.sigma_max=80\.0 and not 40\.0"),
        ({"parametrization__sigma_data": 0.7}, r"has parametrization\.sigma_data=0\.5 and not 0\.7"),
        ({"frozen__teacher": ""}, r"frozen\.teacher is empty, and the system asks for it"),
        ({"consistency__pair": "data"}, r"frozen\.teacher is not asked for by the system"),
    ],
)
def test_teachers_of_something_else_are_refused(teacher, changes, words):
    with pytest.raises(UsageError, match=words):
        build(configured("distillation", **{"frozen__teacher": str(teacher), **changes}))


def test_a_teacher_without_a_score_is_refused(tmp_path):
    learn(configured("training", training__num_steps=1), tmp_path / "other")
    with pytest.raises(UsageError, match=r"other is a run of system\.name='consistency', whose denoiser is no mean"):
        build(configured("distillation", tmp_path / "other", parametrization__prediction="boundary"))


@pytest.mark.parametrize("mode", ["likelihood", "report", "import", "export"])
def test_modes_of_scores_are_refused(mode, tmp_path, capsys):
    (tmp_path / "model.pth").touch()
    line = ["launch.py", "--config", "configs/digits_ct.py", "--workdir", str(tmp_path / "run"), f"--mode={mode}"]
    line += {"import": [f"--checkpoint={tmp_path}/model.pth"], "export": ["--format=jax"]}.get(mode, [])
    assert main(line) == 2
    assert "system.name='consistency' has none" in capsys.readouterr().err
