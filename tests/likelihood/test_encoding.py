"""Encoding against the closed-form flow, its inverse against the tolerance, interpolation and temperature."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood.encoding import blend, decode, encode, interpolate, temperature
from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.sde.analytic import Gaussian
from score_sde.sde.conditioning import condition
from score_sde.solvers import RK45
from tests.golden_files import relative_error
from tests.oracles import CONTINUOUS, T_MIN, bimodal, correlated

KEYS = example_keys(root_key(5), positions(0, 8))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_encoding_is_the_exact_flow(float64, name):
    sde, data, t_min = CONTINUOUS[name], correlated(), T_MIN[name]
    x0 = jnp.asarray(data.sample(KEYS), jnp.float64)
    z, evaluations = jax.jit(lambda x: encode(data.score(sde), sde, x, solver=RK45(1e-7, 1e-7), t_min=t_min))(x0)
    assert relative_error(z, data.flow(sde)(x0, t_min, sde.T)) < 1e-5
    assert int(evaluations) > 20


def test_the_reconstruction_error_falls_with_the_tolerance(float64):
    sde, data = CONTINUOUS["vp"], bimodal()
    x0 = jnp.asarray(data.sample(KEYS), jnp.float64)

    @jax.jit
    def there_and_back(tolerance):
        options = {"solver": RK45(tolerance, tolerance), "t_min": 1e-3}
        z, _ = encode(data.score(sde), sde, x0, **options)
        return decode(data.score(sde), sde, z, **options)[0]

    errors = [relative_error(there_and_back(tolerance), x0) for tolerance in (1e-3, 1e-5, 1e-7, 1e-9)]
    assert all(error < 100 * tolerance for error, tolerance in zip(errors, (1e-3, 1e-5, 1e-7, 1e-9))), errors
    assert all(later < earlier / 10 for earlier, later in itertools.pairwise(errors)), errors


def test_interpolation_follows_the_great_arc():
    """In the plane of its ends, with the angle in proportion to the weight; norms between those of the ends."""
    z0, z1 = (normal(example_keys(root_key(seed), positions(0, 3)), (4, 4, 1)) for seed in (0, 1))
    unit = lambda z: z / jnp.linalg.norm(z.reshape(3, -1), axis=1)[:, None, None, None]
    weights = jnp.array([0.0, 0.25, 0.5, 1.0])
    path = interpolate(unit(z0), unit(z1), weights)
    np.testing.assert_allclose(path[0], unit(z0), atol=1e-6)
    np.testing.assert_allclose(path[-1], unit(z1), atol=1e-6)
    np.testing.assert_allclose(jnp.sum(path**2, axis=(2, 3, 4)), 1, rtol=1e-5)
    angle = lambda a, b: jnp.arccos(jnp.sum(a * b, axis=(1, 2, 3)))
    np.testing.assert_allclose(angle(path[1], path[0]), 0.25 * angle(path[3], path[0]), rtol=1e-4)
    np.testing.assert_allclose(interpolate(z0, 2 * z0, weights)[2], 1.5 * z0, rtol=1e-5)


def test_temperature_scales_the_priors_variance():
    sde = CONTINUOUS["ve"]
    z = sde.prior_sample(example_keys(root_key(0), positions(0, 4096)), (2,))
    assert float(temperature(z, 0.7).std()) == pytest.approx(0.7 * sde.prior_std, rel=0.03)


def test_blends_are_the_exact_flows(float64):
    """There by the data's flow and back by the condition's, or from common noise at a lower level."""
    sde, data = CONTINUOUS["vp"], correlated()
    of = condition(data, jnp.eye(4)[:1], jnp.array([2.0]), 0.1)
    assert of.bases is not None
    asked = Gaussian(of.means[0], of.variances[0], of.bases[0])
    x0, x1 = (jnp.asarray(data.sample(example_keys(root_key(seed), positions(0, 2)))) for seed in (1, 2))
    options = {"solver": RK45(1e-7, 1e-7), "t_min": 1e-3}
    weights, flow, back = jnp.array([0.0, 0.5, 1.0]), data.flow(sde), asked.flow(sde)
    whole = jax.jit(lambda: blend(data.score(sde), sde, x0, x1, weights, condition=asked.score(sde), **options))
    found, evaluations = whole()
    arc = interpolate(flow(x0, 1e-3, sde.T), flow(x1, 1e-3, sde.T), weights)
    expected = jnp.stack([back(z, sde.T, 1e-3) for z in arc])
    assert relative_error(found, expected) < 1e-5
    assert int(evaluations) > 20 * 5
    z = normal(example_keys(root_key(3), positions(0, 2)), (2, 2, 1))
    noisy, _ = jax.jit(lambda: blend(data.score(sde), sde, x0, x1, weights, level=0.3, z=z, **options))()
    at = lambda x: sde.alpha(0.3) * x + sde.sigma(0.3) * z
    arc = interpolate(at(x0), at(x1), weights)
    assert relative_error(noisy, jnp.stack([flow(z, 0.3, 1e-3) for z in arc])) < 1e-5
