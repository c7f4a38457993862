"""Conversions between predictions: cycles for all pairs, definitions, and the official score wrappers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.parametrization import Denoiser, Noise, Score, Velocity, sigma_label, time_label
from score_sde.typing import expand
from tests.golden_files import load, relative_error
from tests.oracles import FAKE, SDES

PREDICTIONS = [Noise(), Score(), Denoiser(), Velocity()]


@pytest.mark.parametrize("sde_name", SDES)
@pytest.mark.parametrize(("a", "b"), list(itertools.product(PREDICTIONS, PREDICTIONS)), ids=lambda p: type(p).__name__)
def test_cycle(float64, sde_name, a, b):
    """score -> a -> score -> b -> score."""
    sde, t = SDES[sde_name], jnp.array([1e-2, 0.3, 1.0])
    x, score = jax.random.normal(jax.random.key(0), (2, 3, 4))
    alpha, sigma = expand(sde.alpha(t), x), expand(sde.sigma(t), x)
    there = a.score(a.output(score, x, alpha, sigma), x, alpha, sigma)
    back = b.score(b.output(there, x, alpha, sigma), x, alpha, sigma)
    for one, other in zip(back, score):
        assert relative_error(one, other) < 1e-9


@pytest.mark.parametrize("sde_name", SDES)
def test_definitions_for_known_data_and_noise(float64, sde_name):
    """With x_0 and eps known, the score of N(alpha x_0, sigma^2) makes each output what its name says."""
    sde, t = SDES[sde_name], jnp.array([0.01, 0.5, 0.9])
    x0, eps = jax.random.normal(jax.random.key(1), (2, 3, 4))
    alpha, sigma = expand(sde.alpha(t), x0), expand(sde.sigma(t), x0)
    x, score = alpha * x0 + sigma * eps, -eps / sigma
    velocity = (alpha * eps - sigma * x0) / jnp.sqrt(alpha**2 + sigma**2)
    for prediction, meaning in zip(PREDICTIONS, (eps, score, x0, velocity)):
        assert relative_error(prediction.output(score, x, alpha, sigma), meaning) < 1e-9


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_scores(sde_name):
    """The official get_score_fn(continuous=True); rows at t < 1e-3 carry its float32 cancellation in std."""
    golden, (parametrization, network) = load("losses"), FAKE[sde_name]
    t = jnp.asarray(golden["t"])
    ours = parametrization(network, SDES[sde_name])(jnp.asarray(golden[f"{sde_name}/perturbed"]), t)
    for b in np.flatnonzero(t > 1e-3):
        assert relative_error(ours[b], golden[f"{sde_name}/score"][b]) < 1e-5


def test_a_scalar_time_serves_the_whole_batch():
    parametrization, network = FAKE["vp"]
    score = parametrization(network, SDES["vp"])
    x = jax.random.normal(jax.random.key(2), (3, 2))
    np.testing.assert_array_equal(score(x, jnp.float32(0.4)), score(x, jnp.full(3, 0.4)))


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_perturbations(sde_name):
    """alpha x_0 + sigma z of the official code, rows at t = 1e-5 apart, which carry its cancellation in std."""
    golden, sde = load("losses"), SDES[sde_name]
    mean, std = sde.marginal(jnp.asarray(golden["x"]), jnp.asarray(golden["t"]))
    ours = mean + expand(std, mean) * golden["z"]
    for b in np.flatnonzero(golden["t"] > 1e-3):
        assert relative_error(ours[b], golden[f"{sde_name}/perturbed"][b]) < 1e-6


def test_labels_are_the_published_ones():
    t = jnp.array([1e-3, 0.5, 1.0])
    np.testing.assert_allclose(time_label(SDES["vp"], t), [0.999, 499.5, 999], rtol=1e-6)
    np.testing.assert_allclose(sigma_label(SDES["ve"], t), 0.01 * 5000 ** np.asarray(t, np.float64), rtol=1e-5)
