"""Measurements against closed forms and against the two-sample figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.kinds import Bytes
from score_sde.data.sources import digits
from score_sde.devices import arrays
from score_sde.evaluation.two_sample import frechet_distance, to_vectors, two_sample
from score_sde.experiment import build
from score_sde.reporting import measure
from score_sde.reporting.measure import Yardstick, draw, look, noise_levels, path
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde.analytic import gaussian
from score_sde.systems import Score
from tests.oracles import CONTINUOUS, T_MIN, correlated
from tests.tiny import tiny_config


@pytest.fixture
def experiment(monkeypatch):
    """The tiny one with the exact score of Gaussian data in the network's place: it compiles at once."""
    data = gaussian(jnp.zeros((8, 8, 1)), 0.3 * jnp.eye(64))
    model = lambda self, *arguments, **options: lambda x, t: (data.score(self.process)(x, t), None)
    monkeypatch.setattr(Score, "model", model)
    return build(tiny_config())


BYTES = Bytes(flip=False, dequantization=False, centered=True)


def test_the_distance_is_the_two_sample_figure():
    train, held_out = digits().train, digits().held_out
    distance, error = Yardstick(BYTES, train)(held_out)
    np.testing.assert_allclose(distance, two_sample(held_out, train, held_out[:0]).frechet_distance, rtol=1e-9)
    assert 0 < error < distance


def test_large_images_are_averaged_over_blocks():
    """Of 37 x 34 pixels in colour, 9 x 8 blocks of 4 x 4, as many as fit into 256 numbers; edges cut off."""
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 256, (30, 37, 34, 3), dtype=np.uint8) for _ in range(2))
    yardstick = Yardstick(BYTES, a)
    assert yardstick.block == 4
    pooled = [
        np.stack([images[:, i : i + 4, j : j + 4].mean((1, 2)) for i in range(0, 36, 4) for j in range(0, 32, 4)], 1)
        for images in (b, a)
    ]
    expected = frechet_distance(*(p.reshape(30, -1) / 127.5 - 1 for p in pooled))
    np.testing.assert_allclose(yardstick(b)[0], expected, rtol=1e-6)


def test_the_standard_error_is_the_spread_of_independent_sets():
    """Of 60 sets, whose spread is known to 9 %, as one standard deviation."""
    random = np.random.default_rng(0)
    sets = np.clip(random.normal(140, 30, (60, 200, 2, 1, 1)), 0, 255).astype(np.uint8)
    yardstick = Yardstick(BYTES, np.clip(random.normal(120, 25, (4000, 2, 1, 1)), 0, 255).astype(np.uint8))
    distances, errors = np.transpose([yardstick(images) for images in sets])
    np.testing.assert_allclose(np.mean(errors), np.std(distances, ddof=1), rtol=0.3)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_score_norm_and_loss_of_an_exact_score(name):
    """E|sigma s|^2 = sigma^2 tr (alpha^2 C + sigma^2)^-1 for Gaussian data, the loss the rest of D."""
    sde, data = CONTINUOUS[name], correlated()
    keys = example_keys(root_key(1), positions(0, 4000))
    grid = jnp.asarray([sde.T, 0.3 * sde.T, 0.05 * sde.T, T_MIN[name]])
    norm, loss, total = jax.jit(lambda k: look(k, data.score(sde), sde, data.sample(k), grid))(keys)
    alpha, sigma = (np.asarray(f(grid), np.float64)[:, None] for f in (sde.alpha, sde.sigma))
    expected = np.mean(sigma**2 / (alpha**2 * np.asarray(data.variances) + sigma**2), axis=1)
    for values, exact in ((norm, expected), (loss, 1 - expected), (total, np.ones(4))):
        error = np.std(values, axis=1) / np.sqrt(4000)
        assert (np.abs(np.mean(values, axis=1) - exact) < 4.5 * error + 1e-5).all()
    assert (np.std(total, axis=1) < np.std(norm + loss, axis=1)).all()


def test_noise_levels_do_not_depend_on_the_batch(experiment):
    """Eleven images in batches of 8, the last one padded, and of 11."""
    images, chosen = experiment.data.held_out, np.arange(11)
    several = noise_levels(experiment, {}, chosen, images, {})
    alone = noise_levels(build(tiny_config(sampling__batch_size=11)), {}, chosen, images, {})
    assert several.images == 11
    np.testing.assert_allclose(several.t[[0, -1]], [1, 1e-3], rtol=1e-5)
    for a, b in zip(several[2:5], alone[2:5]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert len(a[0]) == len(several.t) == measure.NODES


def test_a_path_ends_in_the_sample(experiment):
    """Sample 0 of the config: its path, denoised at the end."""
    walked = path(experiment, {})
    keys = example_keys(root_key(0), positions(0, 1))
    sample = jax.jit(experiment.draw)({}, keys).x[0]
    np.testing.assert_allclose(walked.denoised[-1], sample, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(walked.t[[0, -1]], [1, 1e-3], rtol=1e-5)
    sde = experiment.sde
    np.testing.assert_allclose(walked.alpha**2 + walked.sigma**2, 1, rtol=1e-5)
    np.testing.assert_allclose(walked.log_snr, sde.log_snr(walked.t), rtol=1e-4)
    assert path(build(tiny_config(sampling__solver="rk45")), {}) is None


def test_the_path_of_a_sample_is_that_of_several_processes(experiment, monkeypatch):
    """There what a program is given is laid over all devices by way of numpy."""
    expected = path(experiment, {})
    monkeypatch.setattr(measure, "replicate", lambda x: arrays.put(x, jax.tree.map(lambda _: whole, x)))
    whole = jax.sharding.NamedSharding(arrays.all_devices(), jax.sharding.PartitionSpec())
    assert expected is not None
    for a, b in zip(path(experiment, {}) or (), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_drawing_is_timed_without_compiling(experiment):
    """Which takes far longer than 8 samples of 5 evaluations of a closed form."""
    drawn = draw(experiment, {}, 8)
    assert drawn.x.shape == (8, 8, 8, 1)
    assert drawn.evaluations == 5
    assert 0 < drawn.seconds < 0.02
    assert len(np.unique(to_vectors(drawn.x), axis=0)) == 8
