"""Conversions between predictions: cycles for all pairs, definitions, and the official score wrappers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.parametrization import (
    Denoiser,
    Noise,
    Parametrization,
    PosteriorMean,
    Score,
    Velocity,
    sigma_label,
    time_label,
    ve_levels,
    vp_levels,
)
from score_sde.posterior import posterior_mean
from score_sde.typing import expand
from tests.golden_files import agree, load, relative_error
from tests.oracles import EVERY_SDE, FAKE, SDES, official_numerics

PREDICTIONS = [Noise(), Score(), Denoiser(), Velocity(), PosteriorMean(1000)]


@pytest.mark.parametrize("sde_name", EVERY_SDE)
@pytest.mark.parametrize(("a", "b"), list(itertools.product(PREDICTIONS, PREDICTIONS)), ids=lambda p: type(p).__name__)
def test_cycle(float64, sde_name, a, b):
    """score -> a -> score -> b -> score."""
    sde, t = EVERY_SDE[sde_name], jnp.array([1e-2, 0.3, 1.0])
    x, score = jax.random.normal(jax.random.key(0), (2, 3, 4))
    there = a.score(a.output(score, x, sde, t), x, sde, t)
    back = b.score(b.output(there, x, sde, t), x, sde, t)
    for one, other in zip(back, score):
        assert relative_error(one, other) < 1e-9


@pytest.mark.parametrize("sde_name", EVERY_SDE)
def test_definitions_for_known_data_and_noise(float64, sde_name):
    """With x_0 and eps known, the score of N(alpha x_0, sigma^2) makes each output what its name says."""
    sde, t = EVERY_SDE[sde_name], jnp.array([0.01, 0.5, 0.9])
    x0, eps = jax.random.normal(jax.random.key(1), (2, 3, 4))
    alpha, sigma = expand(sde.alpha(t), x0), expand(sde.sigma(t), x0)
    x, score = alpha * x0 + sigma * eps, -eps / sigma
    velocity = (alpha * eps - sigma * x0) / jnp.sqrt(alpha**2 + sigma**2)
    before = posterior_mean(sde, x, x0, t - 1e-3, t)
    for prediction, meaning in zip(PREDICTIONS, (eps, score, x0, velocity, before)):
        assert relative_error(prediction.output(score, x, sde, t), meaning) < 1e-9


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_scores(sde_name):
    """The official get_score_fn(continuous=True), with its own 1 - exp in the standard deviation at t = 1e-5."""
    golden, (parametrization, network) = load("losses"), FAKE[sde_name]
    score = parametrization(network, official_numerics(sde_name))
    agree(score(golden[f"{sde_name}/perturbed"], golden["t"]), "losses", f"{sde_name}/score", "losses")


def test_a_scalar_time_serves_the_whole_batch():
    parametrization, network = FAKE["vp"]
    score = parametrization(network, SDES["vp"])
    x = jax.random.normal(jax.random.key(2), (3, 2))
    np.testing.assert_array_equal(score(x, jnp.float32(0.4)), score(x, jnp.full(3, 0.4)))


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_perturbations(sde_name):
    golden = load("losses")
    mean, std = official_numerics(sde_name).marginal(golden["x"], golden["t"])
    agree(mean + expand(std, mean) * golden["z"], "losses", f"{sde_name}/perturbed", "losses")


def test_labels_are_the_published_ones():
    t = jnp.array([1e-3, 0.5, 1.0])
    np.testing.assert_allclose(time_label(SDES["vp"], t), [0.999, 499.5, 999], rtol=1e-6)
    np.testing.assert_allclose(sigma_label(SDES["ve"], t), 0.01 * 5000 ** np.asarray(t, np.float64), rtol=1e-5)


@pytest.mark.parametrize("num_scales", [10, 232, 500, 1000, 1086, 2000])
@pytest.mark.parametrize("levels", [vp_levels, ve_levels])
def test_levels_are_exact_on_their_times_in_float32(levels, num_scales):
    law, sde, labels = levels(num_scales), SDES["vp"], np.arange(num_scales)
    t = law.time(sde, jnp.asarray(labels, jnp.float32))
    np.testing.assert_array_equal(law(sde, t), labels)
    between = law.time(sde, jnp.float32(2.5))
    np.testing.assert_allclose(law(sde, between), 2.5, rtol=1e-3)


def test_levels_are_the_published_ones():
    """DDPM's least noise is level 0, at t = 1 / N; SMLD's most noise is level 0, and its last sigma sigma_min."""
    sde = SDES["ve"]
    np.testing.assert_allclose(vp_levels(4).time(sde, np.arange(4)), [0.25, 0.5, 0.75, 1.0])
    sigmas = sde.sigma(ve_levels(1000).time(sde, jnp.arange(1000.0)))
    assert relative_error(sigmas, load("sde")["ve/discrete_sigmas"][::-1]) < 1e-5


def test_a_learned_variance_is_the_second_half_of_the_channels():
    network = lambda x, c, s: jnp.concatenate([2 * x, x], axis=-1)
    x, sde = jnp.linspace(-1, 1, 12).reshape(2, 2, 3), SDES["vp"]
    score, fraction = Parametrization(Noise(), time_label).with_variance(network, sde)(x, jnp.float32(0.5))
    np.testing.assert_allclose(score, -2 * x / sde.sigma(0.5), rtol=1e-6)
    np.testing.assert_allclose(fraction, (x + 1) / 2, rtol=1e-6)
