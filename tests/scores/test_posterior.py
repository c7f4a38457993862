"""Posteriors against Gaussian conditioning, the variances' names, and the cost of a learned one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.scores.posterior import Large, Learned, Small, log_variances, model_mean, posterior_mean
from score_sde.sde import denoiser, transition
from score_sde.solvers import Ancestral
from tests.oracles import EVERY_SDE, correlated


@pytest.mark.parametrize("name", EVERY_SDE)
def test_posterior_by_conditioning_the_joint_gaussian(float64, name):
    """(x_s, x_t) given x_0 is Gaussian with covariance [[ss, a ss], [a ss, a^2 ss + b^2]], ss = sigma_s^2."""
    sde, s, t, x0, x = EVERY_SDE[name], 0.31, 0.62, 0.7, -0.4
    a, b = (float(v) for v in transition(sde, s, t))
    ss = float(sde.sigma(s)) ** 2
    gain = a * ss / (a**2 * ss + b**2)
    mean = float(sde.alpha(s)) * x0 + gain * (x - float(sde.alpha(t)) * x0)
    ours = posterior_mean(sde, jnp.full((1, 1), x), jnp.full((1, 1), x0), s, t)
    np.testing.assert_allclose(ours, mean, rtol=1e-9)
    small, large = log_variances(sde, s, t)
    np.testing.assert_allclose(np.exp([small, large]), [ss - gain * a * ss, b**2], rtol=1e-9)


@pytest.mark.parametrize("name", EVERY_SDE)
def test_the_models_mean_is_the_posteriors_at_the_denoised_image(float64, name):
    sde, data, s, t = EVERY_SDE[name], correlated(), jnp.asarray(0.2), jnp.asarray(0.5)
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 1))
    score = data.score(sde)
    at_denoised = posterior_mean(sde, x, denoiser(sde, score)(x, t), s, t)
    np.testing.assert_allclose(model_mean(sde, x, score(x, t), s, t), at_denoised, rtol=1e-9)


def test_a_learned_variance_interpolates_the_logarithms():
    x, t, small, large = jnp.zeros((2, 3)), jnp.float32(0.5), jnp.float32(-4.0), jnp.float32(-2.0)
    log = lambda v: Learned(lambda x, t: jnp.full(x.shape, v)).log(x, t, small, large)
    np.testing.assert_allclose(log(0.0), Small().log(x, t, small, large) * np.ones((2, 3)))
    np.testing.assert_allclose(log(1.0), Large().log(x, t, small, large) * np.ones((2, 3)))
    np.testing.assert_allclose(log(0.25), -3.5)


def test_score_and_variance_of_one_network_cost_one_evaluation():
    """The compiler merges the two calls: the step's operations are those of one."""
    sde, weights = EVERY_SDE["vp"], jax.random.normal(jax.random.key(0), (512, 512))
    network = lambda x: jnp.tanh(jnp.tanh(x @ weights) @ weights)
    score, fraction = lambda x, t: network(x)[:, :512], lambda x, t: network(x)[:, :512] ** 2
    step = lambda solver: jax.jit(lambda x: solver.update(sde, score, x, 0.5, 0.4, x).x)
    flops = lambda solver: step(solver).lower(jnp.ones((64, 512))).compile().cost_analysis()["flops"]
    assert flops(Ancestral(Learned(fraction))) < 1.05 * flops(Ancestral())
