"""A network trained for seconds on Gaussian fields: its samples follow the picture that they are shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.loop.loop import train
from score_sde.rng import positions
from score_sde.storage.workdir import Workdir
from tests.experiment.test_degrading import LEVEL, A, B, exact_fields, gain
from tests.experiment.test_measuring import MEAN, SHAPE, STD, fields

SHOWN, EACH = 16, 16


def rms(error) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


@pytest.mark.oracles
def test_samples_follow_the_picture_that_is_shown(tmp_path):
    """After 300 steps with noised pictures, told how noisy: samples at level 0 have the exact means K c."""
    x = exact_fields(20_000 + SHOWN)
    config = fields(tmp_path, degradation__name="box", degradation__noise=LEVEL)
    np.save(tmp_path / "x.npy", x[SHOWN:].astype(np.float32))
    np.savez(tmp_path / "y.npz", y=(x[:SHOWN].reshape(SHOWN, -1) @ A.T).reshape(SHOWN, 2, 2, 2))
    config.network.update(nf=8, attn_resolutions=())
    config.parametrization.update(prediction="edm", sigma_data=1.0)
    config.training.update(num_steps=300, batch_size=64, steps_per_call=50, weighting="edm")
    config.optimizer.update(learning_rate=5e-3, warmup=50)
    config.ema.decay = 0.98
    config.checkpoint.every = 300
    config.sampling.update(num_steps=16, batch_size=SHOWN * EACH)
    experiment = build(config)
    params = experiment.weights(train(experiment, Workdir(tmp_path / "run")))
    config.measurement.update(path=str(tmp_path / "y.npz"), samples=EACH)
    drawn = (Generator(experiment)(params, SHOWN * EACH, show=False).x - MEAN) / STD
    z, c = drawn.reshape(SHOWN, EACH, -1), ((x[:SHOWN] - MEAN) / STD).reshape(SHOWN, -1) @ B.T
    other, (K, covariance) = np.roll(c, 1, axis=0), gain(0.0)
    assert rms(z @ B.T - c[:, None]) < 0.3 < 1 < rms(z @ B.T - other[:, None])
    assert rms(z.mean(1) - c @ K.T) < 0.5 < 0.7 < rms(z.mean(1) - other @ K.T)
    assert z.std(1, ddof=1).mean() == pytest.approx(np.sqrt(np.diag(covariance)).mean(), rel=0.25)
    # Permuted pictures have permuted scores, and others than at pictures that are left where they were.
    told = experiment.conditions(positions(0, SHOWN * EACH)[::EACH])
    order, noised = np.random.default_rng(3).permutation(SHOWN), jnp.asarray(z[:, 0].reshape(SHOWN, *SHAPE), float)
    score = jax.jit(lambda told, x: experiment.score_of(params, told)(x, jnp.full(SHOWN, 0.5)))
    permuted = score(jax.tree.map(lambda a: a[order], told), noised[order])
    np.testing.assert_allclose(permuted, score(told, noised)[order], rtol=1e-3, atol=1e-3)
    assert rms(score(told, noised[order]) - permuted) > 0.3 * rms(permuted)
