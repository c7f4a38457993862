"""Progressive distillation: the published losses, a Gaussian's gain in closed form, phases, and teachers refused."""

import itertools
import shutil
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.cli.main import main
from score_sde.cli.phases import phases
from score_sde.data.stream import Batch
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.objectives import denoising
from score_sde.objectives.denoising import perturb, simple
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.parametrization import Denoiser, Noise, Parametrization, Velocity
from score_sde.scores.posterior import log_variances, posterior_mean
from score_sde.sde import Straight, cosine, karras
from score_sde.solvers.few_step import few_step, few_steps_from, node
from score_sde.storage.workdir import Workdir
from score_sde.systems import Distilled, Teacher
from score_sde.systems.distilled import distillation_loss_at, two_steps
from score_sde.training.optimizer import Optimizer
from score_sde.training.step import View, initial_state, make_train_step
from score_sde.typing import expand
from tests.golden_files import load
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config
from tests.training.small import Shallow

PREDICTIONS = {"x": Denoiser(), "eps": Noise(), "v": Velocity()}
WEIGHTINGS = {
    "constant": lambda sde, t: jnp.exp(-sde.log_snr(t)),
    "snr": simple,
    "snr_trunc": denoising.truncated_snr,
    "v_mse": denoising.velocity,
}
M, V = 0.3, 0.16


def golden():
    return load("distillation", "systems")


def recorded(word: str, name: str):
    """The goldens' toy networks, as denoisers: they are told the log-SNR."""
    a, b, c = {"teacher": (0.9, 0.05, 0.0), "student": (0.7, -0.02, 0.1)}[name]
    network = lambda z, label, sigma: jnp.tanh(a * z + b * label[:, None] + c)
    return Parametrization(PREDICTIONS[word], lambda sde, t: sde.log_snr(t)).denoiser(network, cosine())


def test_golden_schedule(float64):
    np.testing.assert_allclose(cosine().log_snr(golden()["schedule__u"]), golden()["schedule__logsnr"], atol=1e-11)


@pytest.mark.parametrize("word", PREDICTIONS)
@pytest.mark.parametrize("num_steps", [1, 2, 8, 512])
def test_golden_losses_and_targets(float64, num_steps, word):
    g, name = golden(), f"loss_N{num_steps}_{word}"
    x0, z, i = g["loss__x"], jnp.asarray(g[f"loss_N{num_steps}__eps"]), jnp.asarray(g[f"loss_N{num_steps}__i"] + 1.0)
    student, teacher = recorded(word, "student"), recorded(word, "teacher")
    for weighting, weight in WEIGHTINGS.items():
        loss = distillation_loss_at(student, teacher, cosine(), x0, i, z, num_steps=num_steps, weighting=weight)
        np.testing.assert_allclose(loss, g[f"{name}__{weighting}"], rtol=1e-11)
    t = node(cosine(), i / num_steps)
    x, sigma = perturb(cosine(), x0, t, z)
    target = two_steps(cosine(), teacher, x, i, num_steps)
    scale = np.abs(g[f"{name}__x_target"]).max()
    np.testing.assert_allclose(target, g[f"{name}__x_target"], rtol=1e-11, atol=1e-11 * scale)
    noise = (x - expand(cosine().alpha(t), x) * target) / sigma
    np.testing.assert_allclose(noise, g[f"{name}__eps_target"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("word", PREDICTIONS)
def test_golden_base_losses(float64, word):
    """N = 0 is a score's loss at continuous times."""
    g, name = golden(), f"loss_N0_{word}"
    student, t = recorded(word, "student"), jnp.asarray(g["loss_N0__u"])
    score = lambda x, t: _score(student, x, t)
    for weighting, weight in WEIGHTINGS.items():
        loss = denoising.denoising_loss_at(score, cosine(), g["loss__x"], t, g["loss_N0__eps"], weighting=weight)
        np.testing.assert_allclose(loss, g[f"{name}__{weighting}"], rtol=1e-10)


def _score(denoiser, x, t):
    alpha, sigma = expand(cosine().alpha(t), x), expand(cosine().sigma(t), x)
    return (alpha * denoiser(x, t) - x) / sigma**2


@pytest.mark.parametrize("word", PREDICTIONS)
@pytest.mark.parametrize("num_steps", [1, 2, 4, 8])
def test_golden_samples(float64, num_steps, word):
    ours = few_steps_from(jnp.asarray(golden()["sample__z_T"]), recorded(word, "student"), cosine(), num_steps)
    theirs = golden()[f"sample_ddim_N{num_steps}_{word}_clip0"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_golden_conversions_and_reverse_variances(float64):
    g, sde = golden(), cosine()
    t, s = (sde.time(g[f"kernel__logsnr_{end}"]) for end in "ts")
    z, x, eps, v = (jnp.asarray(g[f"kernel__{name}"]) for name in ("z", "x", "eps", "v"))
    agree = partial(np.testing.assert_allclose, rtol=1e-8)
    agree(Noise().denoised(eps, z, sde, t), g["kernel__x_from_eps"])
    agree(Velocity().denoised(v, z, sde, t), g["kernel__x_from_v"])
    agree(Noise().output(Denoiser().score(x, z, sde, t), z, sde, t), g["kernel__eps_from_x"])
    alpha, sigma = expand(sde.alpha(t), x), expand(sde.sigma(t), x)
    agree(alpha * eps - sigma * x, g["kernel__v_from_x_and_eps"])
    for found, name in zip(log_variances(sde, s, t), ("small", "large")):
        agree(found, g[f"kernel__reverse_{name}_logvar"][:, 0])
    agree(posterior_mean(sde, z, x, s, t), g["kernel__reverse_small_mean"])


# A Gaussian


def gain(sde, t, s):
    """Of DDIM's step from t to s under the exact score of N(M, V I)."""
    a, b, p, q = sde.alpha(t), sde.sigma(t), sde.alpha(s), sde.sigma(s)
    return (p * a * V + q * b) / (a**2 * V + b**2)


def exact(sde):
    """Its denoiser."""

    def denoise(x, t):
        a, b = sde.alpha(t), sde.sigma(t)
        return M + expand(a * V / (a**2 * V + b**2), x) * (x - expand(a, x) * M)

    return denoise


@pytest.mark.parametrize(("sde", "rho"), [(cosine(), 1.0), (Straight(), 1.0), (karras(), 7.0)])
def test_a_students_gain_is_its_teachers_product(float64, sde, rho):
    """8 -> 4 -> 2 -> 1 in closed form: the loss's minimum is 0, where every student is its teacher's two steps."""
    teacher, x = exact(sde), sde.prior_std * jnp.linspace(-2.0, 2.0, 16).reshape(2, 8)
    ends = [node(sde, i / 8, rho) for i in range(8, 0, -1)]
    product = np.prod([gain(sde, t, s) for t, s in itertools.pairwise(ends)])
    a, b = sde.alpha(ends[-1]), sde.sigma(ends[-1])
    product *= a * V / (a**2 * V + b**2)  # the last x_0
    expected = few_steps_from(x, teacher, sde, 8, rho)
    np.testing.assert_allclose(np.ptp(expected) / np.ptp(x), product, rtol=1e-10)
    for num_steps in (4, 2, 1):
        teacher = partial(_student_of, teacher, sde, num_steps, rho)
        np.testing.assert_allclose(few_steps_from(x, teacher, sde, num_steps, rho), expected, rtol=1e-7, atol=1e-9)


def _student_of(teacher, sde, num_steps, rho, x, t):
    i = jnp.round(num_steps * (jnp.broadcast_to(t, x.shape[:1]) / sde.T) ** (1 / rho))
    return two_steps(sde, teacher, x, i, num_steps, rho)


class Line(nn.Module):
    """x_0 = a(t) x + b(t): what a Gaussian's students are, of a smooth a and b."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        h = nn.Dense(2)(jnp.tanh(nn.Dense(64, kernel_init=nn.initializers.normal(3.0))(label[:, None])))
        return h[:, :1] * x + h[:, 1:]


class Exact(nn.Module):
    """The denoiser of N(M, V I) under the cosine schedule."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        return exact(cosine())(x, label) + 0 * self.param("unused", nn.initializers.zeros, ())


@pytest.mark.oracles
def test_trained_students_have_their_teachers_gain():
    """8 -> 4 -> 2 -> 1 by training, each gain within 1e-3 of the product in closed form."""
    sde, parts = cosine(), Parametrization(Denoiser(), lambda sde, t: t)
    common = {"shape": (8,), "image_shape": (8,), "process": sde, "parametrization": parts, "sampler": None}
    of = lambda network, **more: Distilled(
        network=network,
        objective=None,
        **common,
        **more,  # pyright: ignore[reportArgumentType]
    )
    system = of(Exact(), teacher=Teacher(None), num_steps=8)  # pyright: ignore[reportArgumentType]
    taught = system.init(root_key(0), {})
    product = np.prod([gain(sde, i / 8, (i - 1) / 8) for i in range(8, 1, -1)]) * _last(sde, 1 / 8)
    for num_steps in (4, 2, 1):
        student = of(Line(), teacher=Teacher(system), num_steps=num_steps)
        taught = _learn(student, {"teacher": taught}, 6000)
        system = student
        x = jnp.stack([jnp.ones(8), -jnp.ones(8)])
        ends = few_steps_from(x, student.denoiser(taught), sde, num_steps)
        assert float(ends[0, 0] - ends[1, 0]) / 2 == pytest.approx(float(product), abs=1e-3)


def _last(sde, t):
    return sde.alpha(t) * V / (sde.alpha(t) ** 2 * V + sde.sigma(t) ** 2)


def _learn(system, frozen, steps):
    """The parameters after so many updates of 256 examples of N(M, V I), at a rate that falls to 0."""
    params = super(Distilled, system).init(root_key(1), {})
    optimizers = {"score": Optimizer(learning_rate=3e-3, warmup=0, decay_steps=steps)}

    def loss(params, view, batch):
        keys = example_keys(root_key(2), batch.position)
        x0 = M + V**0.5 * normal(child(keys, Purpose.DEQUANTIZATION), (8,))
        u = jax.vmap(jax.random.uniform)(child(keys, Purpose.TIME))
        return *system.losses(params, view, keys, x0, {}, u)[:1], u, {}

    step = jax.jit(make_train_step(loss, optimizers, {}))
    position = positions(0, steps * 256).reshape(steps, 256, 2)
    state, _ = step(initial_state(params, optimizers, {}), frozen, Batch(np.zeros((steps, 256, 1)), position, {}))
    return state.params


# Runs


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Shallow())
        yield


def velocity_config(**changes):
    own = {"sde__name": "cosine", "parametrization__prediction": "velocity", "training__weighting": "velocity"}
    config = tiny_config(**own | changes)
    config.sampling.update(solver="few_step", num_steps=8, times="uniform")
    return config


def student_config(teacher, steps=(2,), **changes):
    config = velocity_config(system__name="distilled", **changes)
    config.training.weighting = "truncated_snr"
    config.distillation.steps = steps
    config.sampling.num_steps = steps[0] if len(steps) == 1 else config.sampling.num_steps
    config.frozen.teacher = str(teacher)
    return config


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    modes.train(velocity_config(training__num_steps=4), Workdir(folder))
    return folder


@pytest.fixture(scope="module")
def four(teacher, tmp_path_factory):
    """A student of four steps."""
    folder = tmp_path_factory.mktemp("runs") / "four"
    learn(student_config(teacher, (4,), training__num_steps=2), folder)
    return folder


class TestRuns:
    def test_a_student_starts_at_its_teacher_whose_loss_is_not_its_own(self, teacher):
        experiment = build(student_config(teacher))
        jax.tree.map(np.testing.assert_array_equal, experiment.init_params(), experiment.frozen_params["teacher"])
        assert experiment.sde == cosine()
        assert "is still the weights that the run began with" in experiment.early.words(1)

    def test_resumed_is_bitwise_the_uninterrupted_run(self, teacher, tmp_path):
        whole = learn(student_config(teacher), tmp_path / "whole")
        again = learn(student_config(teacher), without_its_end(tmp_path / "whole", tmp_path / "run"))
        for one, other in zip(leaves(whole), leaves(again), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_over_devices(self, teacher, tmp_path):
        devices, found = jax.devices(), []
        for i, way in enumerate((Pmap(devices[:1]), Pmap(devices), Sharded(4, devices))):
            found.append(leaves(learn(student_config(teacher, network__dropout=0.0), tmp_path / str(i), way)))
        for other in found[1:]:
            for one, two in zip(found[0], other, strict=True):
                np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-6)

    def test_examples_do_not_depend_on_their_batch(self, teacher):
        experiment = build(student_config(teacher))
        params, view = experiment.init_params(), View(jnp.int32(0), {}, experiment.frozen_params)
        batch = jax.tree.map(lambda x: x[0], experiment.stream.batches(0, 8, 1))
        loss = jax.jit(lambda batch: experiment.loss(params, view, batch)[0])
        order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
        np.testing.assert_array_equal(np.asarray(loss(batch))[order], loss(jax.tree.map(lambda x: x[order], batch)))

    def test_phases_are_runs_and_samples_need_no_teacher(self, teacher, tmp_path, capsys):
        own = tmp_path / "teacher"
        shutil.copytree(teacher, own)
        config = student_config(own, (4, 2, 1), training__num_steps=2, sampling__num_samples=4)
        runs = list(phases(config, tmp_path / "run"))
        assert [run.workdir.name for run in runs] == ["steps_4", "steps_2", "steps_1"]
        assert modes.in_turn(runs, modes.train) == 0
        said = capsys.readouterr().err
        assert f"phase 2 of 3: 2 steps, from {tmp_path / 'run' / 'steps_4'}" in said
        shutil.rmtree(own)
        assert modes.in_turn(runs, modes.sample) == 0
        for run in runs:
            (found,) = (run.workdir / "samples").glob("few_step-*/samples.npz")
            assert found.parent.name.startswith(f"few_step-{run.config.distillation.steps[0]}-seed0")
            with np.load(found) as samples:
                assert samples["samples"].shape == (4, 8, 8, 1)

    def test_updates_of_phases(self, teacher, tmp_path):
        config = student_config(teacher, (2, 1))
        config.distillation.updates = (3, 5)
        assert [run.config.training.num_steps for run in phases(config, tmp_path)] == [3, 5]

    def test_samples_depend_on_their_own_key_alone(self, four):
        experiment = build(student_config(four))
        params = experiment.init_params()
        keys = example_keys(root_key(3), positions(0, 8))
        draw = jax.jit(lambda keys: experiment.draw(params, keys).x)
        order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
        np.testing.assert_array_equal(np.asarray(draw(keys))[order], draw(keys[order]))
        direct = few_step(keys, experiment.system.denoiser(params), experiment.sde, experiment.shape, num_steps=2)
        np.testing.assert_allclose(draw(keys), direct.x, rtol=1e-5, atol=1e-6)


# What is refused


REFUSED = [
    ({"sde__name": "linear_vp"}, r"has sde\.name='cosine' and not 'linear_vp'"),
    ({"network__nf": 16}, r"has network\.nf=8 and not 16"),
    ({"parametrization__prediction": "noise"}, r"has parametrization\.prediction='velocity' and not 'noise'"),
    ({"data__centered": False}, r"its data are brought to another range"),
    ({"teacher__scale": 2.0}, r"teacher\.scale=2\.0 is between a label and none"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_a_teacher_of_something_else_is_refused(teacher, changes, words):
    with pytest.raises(UsageError, match=words):
        build(student_config(teacher, **changes))


def test_steps_that_are_not_half_of_the_teachers_are_refused(four):
    build(student_config(four, (2,)))
    with pytest.raises(UsageError, match=r"distillation\.steps=1 is not half of the 4 steps of frozen\.teacher=.*four"):
        build(student_config(four, (1,)))
    with pytest.raises(UsageError, match=r"distillation\.rho=2\.0 is not frozen\.teacher=.*four's 1\.0"):
        build(student_config(four, (2,), distillation__rho=2.0))
    with pytest.raises(UsageError, match=r"distillation\.steps=\(4, 2\) are phases, one run each"):
        build(student_config(four, (4, 2)))


COMMANDS = [
    (["--config.distillation.steps=1,2,4"], r"distillation.steps=(1, 2, 4): 2 is not half of 1"),
    (["--config.distillation.steps=8,2"], r"2 is not half of 8"),
    (["--config.distillation.updates=10,20"], r"distillation.updates=(10, 20) must name updates for each"),
    (["--config.sampling.solver=heun"], r"sampling.solver='heun' asks for a score"),
    (["--mode=likelihood"], r"--mode=likelihood integrates a score, and system.name='distilled' has none"),
    (["--mode=report"], r"such as the teacher's, for it"),
    (["--config.guidance.scale=2", "--config.data.condition=('label',)", "--config.network.label_dropout=.1"],
     r"guide the teacher, by teacher.scale"),
    (["--config.training.times=likelihood"], r"training.times='likelihood' has no meaning for system.name='distilled'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), COMMANDS, ids=lambda value: str(value)[:40])
def test_bad_commands_are_refused_before_anything_is_read(arguments, words, tmp_path, capsys):
    line = ["launch.py", "--config", "configs/digits_distilled.py", "--workdir", str(tmp_path / "run")]
    assert main([*line, *arguments]) == 2
    assert words in capsys.readouterr().err
