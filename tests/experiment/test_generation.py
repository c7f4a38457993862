"""Generation: sample k is a function of (seed, k), on one device or eight, in whatever batches; modes.finish."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.data.kinds import Bytes
from score_sde.data.spec import Spec
from score_sde.devices.platform import platform
from score_sde.errors import UsageError
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.loop.loop import train
from score_sde.rng import example_keys, positions, root_key
from score_sde.solvers.sampling import Samples
from score_sde.storage.workdir import Workdir
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_config(evaluation__final_samples=12))


@pytest.fixture(scope="module")
def state(experiment):
    return experiment.initial_state()


@pytest.fixture(scope="module")
def generator(experiment):
    return Generator(experiment)


def test_eight_devices_draw_what_one_draws(experiment, state, generator):
    """11 samples in batches of 8 over 8 devices, against one batch of 11 on one device."""
    assert jax.local_device_count() == 8
    several = generator(experiment.weights(state), 11, show=False)
    keys = example_keys(root_key(0), positions(0, 11))
    alone = jax.jit(experiment.draw)(experiment.weights(state), keys)
    assert several.evaluations == int(alone.evaluations) == 5
    expected = np.clip(np.floor(128 * (np.asarray(alone.x) + 1)), 0, 255)
    assert several.images.shape == (11, 8, 8, 1)
    assert np.abs(several.images - expected).max() <= 1
    assert several.images.std() > 10


def test_each_samples_own_evaluations_are_reported():
    """Of 11 samples in two batches of 8, those five that were drawn for nothing left out."""
    counts = lambda keys: jax.vmap(jax.random.bits)(keys).astype(np.int32) % 100
    images = lambda params, keys: params["w"] * jax.vmap(jax.random.normal)(keys)[:, None, None, None]
    known = SimpleNamespace(
        config=tiny_config(),
        check=lambda: None,
        draw=lambda params, keys, condition, times: Samples(images(params, keys), counts(keys)),
        times=lambda params: None,
        conditions=lambda position: {},
        drawing=SimpleNamespace(parts={}, known=lambda *given: {}),
        asked=None,
        frozen={},
        system=None,
        spec=Spec((8, 8, 1)),
        platform=platform(),
        kind=Bytes(flip=False, dequantization=False, centered=True),
    )
    generated = Generator(known)({"w": np.ones(())}, 11, show=False)
    expected = counts(example_keys(root_key(0), positions(0, 11)))
    np.testing.assert_array_equal(generated.counts, expected)
    np.testing.assert_allclose(generated.evaluations, np.mean(expected))


CHANGED = [{"seed": 5}, {"num_steps": 2, "denoise": False}, {"solver": "euler_maruyama", "times": "log_snr"}, {}]


def test_a_changed_config_is_noticed_at_the_next_call(state):
    """Each way in turn, and back to the first, is what a new generator draws."""
    config = tiny_config()
    before = config.sampling.to_dict()
    live, experiment = Generator(one := build(config)), build(config)
    for changes in CHANGED:
        config.sampling.update(before)
        config.sampling.update(changes)
        drawn = live(one.weights(state), 5, show=False)
        fresh = Generator(build(config))(experiment.weights(state), 5, show=False)
        np.testing.assert_array_equal(drawn.x, fresh.x)
        assert drawn.evaluations == config.sampling.num_steps + config.sampling.denoise


def test_another_seed_asks_for_no_other_program(state):
    config = tiny_config()
    generator = Generator(one := build(config))
    generator(one.weights(state), 3, show=False)
    config.sampling.update(seed=2**32 - 1, num_samples=9)
    found = generator(one.weights(state), 3, show=False)
    assert generator._draw._program._cache_size() == 1
    alone = jax.jit(one.draw)(one.weights(state), example_keys(root_key(2**32 - 1), positions(0, 3)))
    assert np.abs(found.x - np.clip(np.floor(128 * (np.asarray(alone.x) + 1)), 0, 255)).max() <= 1


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("network.nf", 16, "network.nf was 8 when this experiment was built, and is 16 now: build another one"),
        ("sde.beta_max", 10.0, "sde.beta_max was 20.0 when"),
        ("data.centered", False, "data.centered was True when"),
        ("ema.decay", 0.5, "ema.decay was 0.9 when"),
        ("training.remat", "blocks", "training.remat was 'none' when"),
        ("sampling.solver", "eular", r"sampling.solver='eular' is unknown: did you mean euler\?"),
    ],
)
def test_what_was_built_is_not_changed_behind_its_back(name, value, words, tmp_path):
    config = tiny_config()
    one = build(config)
    section, field = name.split(".")
    config[section][field] = value
    for act in (
        lambda: Generator(one)({}, 1),
        lambda: next(ImageLikelihood(one)({}, one.data.held_out, np.arange(3))),
        lambda: train(one, Workdir(tmp_path / "run")),
    ):
        with pytest.raises(UsageError, match=words):
            act()
    assert not (tmp_path / "run").exists()


def test_finish_writes_grid_and_figures_once(experiment, state, generator, tmp_path, capsys):
    workdir = Workdir(tmp_path)
    modes.finish(experiment, generator, state, workdir)
    report = json.loads((tmp_path / "evaluation" / "final_00000000.json").read_text())
    images = generator(experiment.weights(state), 12, show=False).images
    figures = two_sample(images, experiment.data.train, experiment.data.held_out)
    np.testing.assert_allclose(report["frechet_distance"], figures.frechet_distance, rtol=1e-6)
    assert report["num_samples"] == 12
    assert f"{figures.frechet_distance:.3f}" in capsys.readouterr().out
    assert (tmp_path / "samples" / "final_00000000.png").exists()
    modes.finish(experiment, generator, state, workdir)
    assert "complete" in capsys.readouterr().out
