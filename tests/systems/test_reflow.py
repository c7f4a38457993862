"""Rectified flow: pairs of a teacher whose flow is known, straight lines between them, runs that keep their pairs."""

import dataclasses
import json
import shutil
import signal
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_sde.config.validation import validate
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, factories, forecasting, objects, pairs
from score_sde.experiment.building import assemble
from score_sde.experiment.frozen import Frozen, Record
from score_sde.experiment.generation import Generator
from score_sde.loop.loop import train
from score_sde.objectives.denoising import LogNormalTimes, UniformTimes, denoising_loss, difference
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.parametrization import Difference, Parametrization, time_label
from score_sde.sde import Straight
from score_sde.signals import Stopped
from score_sde.solvers.few_step import few_step
from score_sde.storage.workdir import Workdir
from score_sde.systems import Reflow
from tests.golden_files import load
from tests.gradients import NO_VIEW
from tests.systems import game
from tests.tiny import tiny_config
from tests.training.small import Labelled, Shallow

MEAN, VARIANCE = 0.3, 0.16
KEYS = example_keys(root_key(1), positions(0, 64))


class Gaussian(nn.Module):
    """The noise of N(m, v) data under VP; m is MEAN, or a tenth of the label, of which 10 is the null one."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        m = MEAN if condition is None else condition["label"][:, None, None, None] / 10
        sigma = sigma[:, None, None, None]
        alpha = jnp.sqrt(1 - sigma**2)
        return sigma * (x - alpha * m) / (alpha**2 * VARIANCE + sigma**2)


def exact_teacher(scale: float = 1.0, **changes: Any) -> tuple[Any, Any, dict[str, Frozen]]:
    """Config, spec and frozen parts of a reflow whose teacher has the score of Gaussian data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Gaussian())
        taught = build(tiny_config(**changes))
    config = tiny_config(**changes, reflow__pairs=64, reflow__num_steps=30, teacher__scale=scale)
    return config, taught.spec, {"teacher": Frozen(Record("runs/a", 1, "warmup", "0"), taught, {"score": {}})}


def test_pairs_are_the_two_ends_of_the_teachers_ode():
    """Of Gaussian data m + sqrt(v) z, but for the last denoising, which at t_min moves x by 1e-3 of that."""
    found = pairs.drawn(*exact_teacher())
    assert found.x.shape == found.condition["noise"].shape == (64, 8, 8, 1) and found.x.dtype == np.float32
    np.testing.assert_allclose(found.x, MEAN + VARIANCE**0.5 * found.condition["noise"], atol=5e-3)
    assert abs(found.condition["noise"].std() - 1) < 0.05


def test_pairs_of_a_guided_teacher_come_with_their_labels():
    """u + lambda (c - u) of two Gaussians of one variance is the score of another: its mean lies on their line."""
    labelled = {"data__condition": ("label",), "network__label_dropout": 0.1}
    found = pairs.drawn(*exact_teacher(scale=2.0, **labelled))
    label = found.condition["label"]
    mean = 1.0 + 2 * (label / 10 - 1.0)
    expected = mean[:, None, None, None] + VARIANCE**0.5 * found.condition["noise"]
    np.testing.assert_allclose(found.x, expected, atol=2e-2)
    assert label.dtype == np.int32 and len(set(label.tolist())) > 5


class Line(nn.Module):
    """w(t) x + b(t) of two layers: it holds the velocity of paired Gaussians."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        h = nn.tanh(nn.Dense(16)(jnp.stack([label / 999, 1 - label / 999], -1)))
        w, b = jnp.split(nn.Dense(2)(h), 2, -1)
        return w * x + b


class ExactLine(nn.Module):
    """The velocity z - x of pairs x = m + s z, which x_t tells: z = (x_t - (1 - t) m) / ((1 - t) s + t)."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None):
        t, m, s = sigma[:, None], MEAN, VARIANCE**0.5
        z = (x - (1 - t) * m) / ((1 - t) * s + t)
        return (1 - s) * z - m


def system(network: nn.Module, shape: tuple[int, ...] = (4,), **changes: Any) -> Reflow:
    parametrization, unasked = Parametrization(Difference(), time_label), lambda *given: None
    return Reflow(
        shape, shape, Straight(), network, parametrization, unasked, unasked, times=UniformTimes(1e-3), **changes  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def paired(keys: Any) -> tuple[Any, dict[str, Any]]:
    z = normal(child(keys, 100), (4,))
    return MEAN + VARIANCE**0.5 * z, {"noise": z}


def test_after_one_reflow_one_step_is_exact_on_gaussian_data():
    """Of the exact velocity the loss is 0 at every t, and one Euler step is m + sqrt(v) z, the recorded map."""
    golden, exact = load("oracles", "systems"), system(ExactLine())
    (m, v), (z, x) = ((golden[f"reflow__{name}"] for name in names) for names in (("mean", "var"), ("z", "x")))
    np.testing.assert_allclose(m + np.sqrt(v) * z, x, rtol=1e-6)
    x0, told = paired(KEYS)
    loss, terms = exact.losses({"score": {}}, NO_VIEW, KEYS, x0, told, jnp.linspace(0, 0.999, 64))
    assert terms == {} and float(loss.max()) < 1e-6
    one = few_step(KEYS, exact.denoiser({"score": {}}), exact.process, (4,), num_steps=1)
    ends = normal(child(KEYS, Purpose.PRIOR), (4,))  # x_T = 0.999 z: what is missing of z is T's
    np.testing.assert_allclose(one.x, MEAN + VARIANCE**0.5 * ends, atol=5e-3)
    assert int(one.evaluations) == 1


def test_a_line_that_is_trained_makes_the_map_in_one_step():
    """600 updates of seconds: the gain of one step is sqrt(v) to a hundredth, where independent pairs give 0."""
    own = system(Line())
    params, optimizer = own.init(jax.random.key(0), {}), optax.adam(optax.cosine_decay_schedule(2e-2, 600))

    def update(carry, position):
        params, state = carry
        keys = example_keys(root_key(0), position)
        x0, told = paired(keys)
        u = (jnp.arange(256) + 0.5) / 256
        slope = jax.grad(lambda p: own.losses(p, NO_VIEW, keys, x0, told, u)[0].mean())(params)
        moved, state = optimizer.update(slope, state)
        return (optax.apply_updates(params, moved), state), None

    position = positions(0, 600 * 256).reshape(600, 256, 2)
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(update, c, position))((params, optimizer.init(params)))
    ends = normal(child(KEYS, Purpose.PRIOR), (4,))
    one = few_step(KEYS, own.denoiser(params), own.process, (4,), num_steps=1).x
    gain, offset = np.polyfit(np.ravel(ends), np.ravel(one), 1)
    np.testing.assert_allclose((gain, offset), (VARIANCE**0.5, MEAN), atol=0.01)


def test_a_logit_normal_law_of_t_is_log_normal_times_of_straight_lines():
    """ln(sigma / alpha) = logit t: sigmoid of normal numbers, by their quantiles."""
    from scipy.special import expit
    from scipy.stats import norm

    u = np.linspace(0.01, 0.99, 50)
    t, ratio = LogNormalTimes(0.3, 1.2)(Straight(), jnp.asarray(u))
    np.testing.assert_allclose(t, expit(0.3 + 1.2 * norm.ppf(u)), rtol=1e-5)
    np.testing.assert_array_equal(ratio, 1)


def test_with_the_noise_of_a_score_system_it_is_one():
    """To rounding, where every example's own noise is the one that it would have drawn."""
    own, x0 = system(Line()), normal(child(KEYS, 7), (4,))
    params, u = own.init(jax.random.key(0), {}), jnp.linspace(0, 0.99, 64)
    told = {"noise": normal(child(KEYS, Purpose.NOISE), (4,))}
    score = own.score(params)
    plain = lambda u: denoising_loss(KEYS, score, own.process, x0, weighting=difference, times=own.times, u=u)
    paired = jax.jit(lambda u: own.losses(params, NO_VIEW, KEYS, x0, told, u)[0])
    np.testing.assert_allclose(paired(u), jax.jit(plain)(u), rtol=2e-6)


# Runs.


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Shallow())
        yield


def flat(**changes: Any) -> Any:
    """A reflow of few pairs, without what is the data's alone."""
    own = {
        "system__name": "reflow", "sde__name": "straight", "parametrization__prediction": "difference",
        "training__weighting": "difference", "data__random_flip": False, "reflow__pairs": 40, "reflow__num_steps": 3,
        "training__num_steps": 4, "checkpoint__every": 2, "sampling__batch_size": 16, "sampling__num_samples": 16,
    }  # fmt: skip
    return tiny_config(**{**own, **changes})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    config = tiny_config(training__num_steps=2, checkpoint__every=2, data__random_flip=False)
    train(build(config), Workdir(folder), generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]
    return folder


def reflow(teacher, workdir=None, **changes: Any) -> Any:
    config = flat(**changes)
    config.frozen.teacher = str(teacher)
    return build(config, workdir.record() if workdir else None)


def run(teacher, workdir: Workdir, strategy: Any = None, **changes: Any) -> Any:
    built = reflow(teacher, workdir, **changes)
    built = dataclasses.replace(built, strategy=strategy or built.strategy)
    return train(built, workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def whole(teacher, tmp_path_factory):
    """An uninterrupted run."""
    workdir = Workdir(tmp_path_factory.mktemp("runs") / "whole")
    return run(teacher, workdir), workdir


def leaves(state: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.averages, state.optimizer))]


def same(a: Any, b: Any) -> None:
    for one, other in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_keeps_its_pairs_and_goes_on_to_the_bit(teacher, whole, tmp_path):
    """Stopped between two blocks of pairs, then after two updates, with a pair damaged in between."""
    state, workdir = whole
    own = Workdir(tmp_path / "run")
    own.path.mkdir()
    with pytest.raises(Stopped, match="16 of 40 pairs, which are kept"):
        pairs.draw_pairs(reflow(teacher), own.pairs, lambda: signal.SIGTERM, show=False)
    assert len(json.loads((own.pairs / "blocks.json").read_text())["blocks"]) == 1
    run(teacher, own, training__num_steps=2, sampling__batch_size=8)  # the block's size is what it was begun with
    file = own.pairs / "x.npy"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    same(run(teacher, own), state)
    for name in ("x.npy", "noise.npy"):
        assert (own.pairs / name).read_bytes() == (workdir.pairs / name).read_bytes()
    drawn = reflow(teacher).pairs
    np.testing.assert_array_equal(drawn.x, np.load(workdir.pairs / "x.npy"))  # in memory, where there is no directory


def test_pairs_of_other_settings_are_made_again(teacher, whole, tmp_path):
    _, workdir = whole
    shutil.copytree(workdir.pairs, tmp_path / "pairs")
    other = reflow(teacher, reflow__solver="euler")
    pairs.draw_pairs(other, tmp_path / "pairs", lambda: 0, show=False)
    assert np.abs(other.pairs.x - np.load(workdir.pairs / "x.npy")).max() > 1e-3
    np.testing.assert_array_equal(other.pairs.condition["noise"], np.load(workdir.pairs / "noise.npy"))


WAYS = {
    "pmap on 1": (1, lambda d: Pmap(d[:1])),
    "pmap on 2, in microbatches": (2, lambda d: Pmap(d[:2])),
    "sharded on 8, 4 of them fsdp": (1, lambda d: Sharded(4, d)),
}


@pytest.mark.parametrize("way", WAYS)
def test_devices_and_microbatches_change_nothing(teacher, whole, way, tmp_path):
    (state, workdir), (parts, strategy) = whole, WAYS[way]
    shutil.copytree(workdir.pairs, tmp_path / "run" / "pairs")
    found = run(teacher, Workdir(tmp_path / "run"), strategy(jax.devices()), training__microbatches=parts)
    for one, other in zip(leaves(found), leaves(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


def test_an_example_is_alone_in_its_batch(teacher):
    """Its loss and its sample, to the bit, whatever stands beside it."""
    built = reflow(teacher)
    params = built.init_params()
    batch = jax.tree.map(lambda rows: rows[0], built.stream.batches(0, 16, 1))
    turned = jax.tree.map(lambda rows: np.concatenate([rows[:1], rows[:0:-1]]), batch)
    loss = jax.jit(lambda batch: built.loss(params, NO_VIEW, batch)[0])
    np.testing.assert_array_equal(loss(batch)[0], loss(turned)[0])
    keys = example_keys(root_key(0), positions(0, 16))
    draw = jax.jit(lambda keys: built.draw(params, keys).x)
    np.testing.assert_array_equal(draw(keys)[0], draw(jnp.concatenate([keys[:1], keys[:0:-1]]))[0])


def test_it_is_a_score_system_that_needs_no_teacher_any_more(teacher, whole, tmp_path):
    """Samples by its own few steps and by any solver, a likelihood's score; and the teacher of the next reflow."""
    state, workdir = whole
    record: Any = workdir.record()
    gone = {**record, "frozen": {"teacher": {**record["frozen"]["teacher"], "run": "nowhere"}}}
    for solver in ("few_step", "adams_2"):
        config = flat(sampling__solver=solver, sampling__num_steps=1)
        config.frozen.teacher = "nowhere"
        built = build(config, gone, training=False)
        found = Generator(built)(built.weights(state), 16, show=False)
        assert found.evaluations == (1 if solver == "few_step" else 2) and found.finite.all()
    again = reflow(workdir.path)
    assert again.frozen["teacher"].experiment.config.system.name == "reflow"
    assert again.pairs.x.shape == (40, 8, 8, 1)


def test_labels_go_along_into_the_loss(monkeypatch):
    """Each pair with its own; dropped in training as a score's are; and the step is one that is forecast."""
    labelled = {"data__condition": ("label",), "network__label_dropout": 0.1}
    _, spec, frozen = exact_teacher(**labelled)
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Labelled())
    built = assemble(flat(**labelled), spec, factories.SYSTEMS["reflow"], frozen)
    batch = jax.tree.map(lambda rows: rows[0], built.stream.batches(0, 16, 1))
    numbers = built.stream.indices(0, 16)
    assert built.pairs is not None and set(batch.condition) == {"noise", "label"}
    for name, rows in {"x": built.pairs.x, **built.pairs.condition}.items():
        np.testing.assert_array_equal(batch.x if name == "x" else batch.condition[name], rows[numbers])
    params = built.init_params()
    other = batch._replace(condition={**batch.condition, "label": (batch.condition["label"] + 1) % 10})
    loss = jax.jit(lambda batch: built.loss(params, NO_VIEW, batch)[0])
    changed = np.asarray(loss(batch)) != np.asarray(loss(other))
    assert 8 < changed.sum() <= 16
    lowered = forecasting.PROGRAMS["training step"](dataclasses.replace(built, strategy=Sharded(1, jax.devices()[:1])))
    assert "f32[1,16,8,8,1]" in lowered.as_text("hlo")


REFUSED = [
    ({"sde__name": "vp"}, r"sde\.name='vp' does not go with system\.name='reflow', .* set it to 'straight'"),
    ({"reflow__pairs": 15}, r"reflow\.pairs=15 do not fill one batch of training\.batch_size=16: draw more"),
    ({"data__random_flip": True}, r"data\.random_flip=True has no meaning for system\.name='reflow'"),
    ({"training__objective": "sliced"}, r"training\.objective='sliced' has no meaning"),
    ({"evaluation__every": 2}, r"evaluation\.every=2 asks for the loss of held-out examples, and those have no noise"),
    ({"reflow__solver": "ancestral"}, r"reflow\.solver='ancestral' is unknown"),
    ({"frozen__autoencoder": "runs/a"}, r"frozen\.autoencoder='runs/a' is not asked for"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_means_nothing_to_pairs_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        validate(flat(**changes))


def test_teachers_that_draw_no_such_pairs_are_refused(teacher, tmp_path):
    with pytest.raises(UsageError, match=r"frozen\.teacher is empty, and the system asks for it"):
        build(flat())
    with pytest.raises(UsageError, match=r"is told 0 classes and this run 10: give data\.condition"):
        reflow(teacher, data__condition=("label",))
    with pytest.raises(UsageError, match=r"teacher\.scale=2\.0 is between a label and none"):
        reflow(teacher, teacher__scale=2.0)
    config, spec, frozen = exact_teacher()
    frozen["teacher"] = frozen["teacher"]._replace(params={"score": {"w": np.float32(1)}})
    config.reflow.update(solver="lms", num_steps=1)
    bad = dataclasses.replace(frozen["teacher"].experiment.system, network=Broken())
    frozen["teacher"] = frozen["teacher"]._replace(
        experiment=dataclasses.replace(frozen["teacher"].experiment, system=bad)
    )
    with pytest.raises(UsageError, match=r"samples of frozen\.teacher=runs/a .* are not finite: raise reflow\.num"):
        pairs.drawn(config, spec, frozen)


class Broken(nn.Module):
    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        return x * jnp.nan
