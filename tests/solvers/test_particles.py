"""Sequential Monte Carlo: what its weights make of a posterior score that is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.guidance import DiffPIRScore, PiGDM, measurement
from score_sde.guidance.measurement import Measurement
from score_sde.guidance.operators import matrix
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import karras
from score_sde.sde.analytic import mixture
from score_sde.sde.conditioning import condition
from score_sde.solvers.particles import sample_particles

SDE = karras(20.0)
DATA = mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.5, 1.0], [1.5, -0.5]]), jnp.array([0.3, 0.5]))
A, Y, NOISE = np.array([[0.4, 1.0]]), jnp.array([[0.3]]), 0.5
POSTERIOR = condition(DATA, jnp.asarray(A), Y[0], NOISE)
TIMES = jnp.asarray(np.geomspace(20.0, 0.02, 60))


def keys(count: int):
    return example_keys(root_key(0), positions(0, count))


@jax.jit
def draw(keys, y):
    """By one and by sixteen particles."""
    seen = Measurement(matrix(A, (2,)), y, jnp.asarray(NOISE))
    options = {"posterior": PiGDM(2.0), "measurement": seen, "times": TIMES, "variance": 2.0}
    return [sample_particles(keys, DATA.score(SDE), SDE, (2,), count=count, **options) for count in (1, 16)]


def test_weights_bring_particles_to_the_exact_posterior():
    one, many = draw(keys(2000), Y)
    assert (int(one.evaluations), int(many.evaluations)) == (60, 960)
    share = lambda x: float((x[:, 0] > 0).mean())
    expected = share(POSTERIOR.sample(keys(40_000)))
    mean, covariance = POSTERIOR.moments()
    assert abs(share(one.x) - expected) > 0.045  # the proposal is wrong; a standard error is 0.01
    assert abs(share(many.x) - expected) < 0.03
    assert np.abs(many.x.mean(0) - mean).max() < 0.12
    assert np.abs(np.cov(many.x.T) - covariance.reshape(2, 2)).max() < 0.25 * float(np.diag(covariance).max())


def test_a_sample_is_a_function_of_its_own_key_and_measurement():
    several = jnp.array([[0.3], [0.3], [1.0], [-2.0]])
    whole = draw(keys(4), several)[1].x
    np.testing.assert_array_equal(draw(keys(4)[::-1], several[::-1])[1].x[::-1], whole)
    np.testing.assert_allclose(draw(keys(2), several[:2])[1].x, whole[:2], rtol=1e-4, atol=1e-5)


def test_what_it_cannot_do_is_refused():
    seen = measurement(matrix(A, (2,)), Y, NOISE, (2,))
    with pytest.raises(UsageError, match="count=0 must be at least 1"):
        sample_particles(
            keys(1), DATA.score(SDE), SDE, (2,), posterior=DiffPIRScore(), measurement=seen, times=TIMES, count=0
        )
