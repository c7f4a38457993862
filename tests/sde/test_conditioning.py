"""Exact posteriors of linear measurements and laws of edited examples, against closed forms, quadrature and draws."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde.analytic import Mixture, mixture
from score_sde.sde.conditioning import condition, edited, log_evidence
from tests.golden_files import load, relative_error
from tests.oracles import CONTINUOUS, T_MIN, bimodal, correlated

G = functools.partial(load, "oracles", "conditioning")
POSTERIORS = sorted({m[1] for key in G() if (m := re.match(r"(\w+/\w+/sy[\d.]+)/", key))})
UNDER = sorted({m[1] for key in G() if (m := re.match(r"(\w+/\w+/sy[\d.]+/\w+)/score_y$", key))})


def recorded(name: str) -> Mixture:
    w, mu, cov = (jnp.asarray(G()[f"{name}/{k}"]) for k in ("w", "mu", "cov"))
    return mixture(w, mu, covariances=cov)


def posterior(case: str) -> tuple[Mixture, Mixture]:
    """Recorded data and what we make of them."""
    name, problem, sigma_y = case.split("/")[:3]
    data, A, y = (
        recorded(name),
        jnp.asarray(G()[f"{name}/{problem}/A"]),
        jnp.asarray(G()[f"{name}/{problem}/{sigma_y}/y"]),
    )
    return data, condition(data, A, y, float(sigma_y[2:]))


@pytest.mark.parametrize("case", POSTERIORS)
def test_recorded_posteriors(float64, case):
    name, problem, sigma_y = case.split("/")
    data, found = posterior(case)
    at = lambda key: G()[f"{case}/{key}"]
    np.testing.assert_allclose(found.weights, at("post_w"), rtol=1e-9, atol=1e-12)
    assert relative_error(found.means, at("post_mu")) < 1e-9
    assert np.abs(found.covariances - at("post_cov")).max() < 1e-9 * np.abs(at("post_cov")).max() + 1e-14
    mean, covariance = found.moments()
    assert relative_error(mean, at("post_mean_total")) < 1e-9
    assert relative_error(covariance, at("post_cov_total")) < 1e-9
    evidence = log_evidence(data, jnp.asarray(G()[f"{name}/{problem}/A"]), jnp.asarray(at("y")), float(sigma_y[2:]))
    np.testing.assert_allclose(evidence, at("log_evidence"), rtol=1e-9)


@pytest.mark.parametrize("case", UNDER)
def test_recorded_scores(float64, case):
    """Of the posterior at six noise levels: its own noised marginal."""
    data, found = posterior(case)
    at, sde = lambda key: G()[f"{case}/{key}"], CONTINUOUS[case.rsplit("/", 1)[1]]
    t, x = jnp.asarray(at("t")), jnp.asarray(at("x"))
    assert relative_error(found.score(sde)(x, t), at("score_y")) < 1e-9
    assert relative_error(data.score(sde)(x, t), at("score")) < 1e-9
    assert relative_error(found.denoiser(sde)(x, t), at("denoised_y")) < 1e-8
    assert relative_error(found.log_prob(sde)(x, t), at("logp_y")) < 1e-9


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize("name", ["gauss", "mix", "mixf"])
def test_covariance_is_the_denoisers_slope(float64, name, sde_name):
    """Cov[x_0 | x_t] = (sigma^2 / alpha) dD/dx."""
    data, sde = recorded(name), CONTINUOUS[sde_name]
    t = jnp.array([T_MIN[sde_name], 0.3, 0.9])
    x = sde.marginal(data.sample(example_keys(root_key(0), positions(0, 3))), t)[0]
    denoise = data.denoiser(sde)
    J = jax.vmap(jax.jacfwd(lambda x, t: denoise(x[None], t[None])[0]))(x, t)
    expected = (sde.sigma(t) ** 2 / sde.alpha(t))[:, None, None] * J
    # The slope is a difference of numbers of the size of 1 at small t, where the covariance is sigma^2.
    error = np.abs(data.covariance(sde)(x, t) - expected).max((1, 2))
    np.testing.assert_array_less(error, 1e-9 * np.abs(expected).max((1, 2)) + 1e-14)


@pytest.mark.parametrize("name", ["mix", "mixf"])
def test_responsibilities_are_the_classifier_of_classes(float64, name):
    data, sde = recorded(name), CONTINUOUS["vp"]
    x, t = data.sample(example_keys(root_key(1), positions(0, 4))), jnp.array([0.01, 0.2, 0.5, 0.9])
    classifier = data.log_responsibilities(sde)
    np.testing.assert_allclose(jnp.exp(classifier(x, t)).sum(-1), 1, rtol=1e-12)
    for k in range(len(data.weights)):
        slope = jax.grad(lambda x, k=k: classifier(x, t)[:, k].sum())(x)
        assert relative_error(data.part((k,)).score(sde)(x, t), data.score(sde)(x, t) + slope) < 1e-10
    np.testing.assert_allclose(data.part((0, 1)).weights.sum(), 1)


@pytest.mark.parametrize("make", [correlated, bimodal])
def test_every_law_is_conditioned(float64, make):
    """By a quadratic form: p(x_0 | y) is p(x_0) N(y; A x_0, sigma_y^2) over the evidence."""
    data = make()
    A, y = jnp.array([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]), jnp.array([0.4, 0.2])
    found, sde, sigma_y = condition(data, A, y, 0.3), CONTINUOUS["edm"], 0.3
    x = data.sample(example_keys(root_key(2), positions(0, 5)))
    residual = (y[None] - x.reshape(5, -1) @ A.T) / sigma_y
    likelihood = -0.5 * jnp.sum(residual**2, -1) - 2 * jnp.log(sigma_y * jnp.sqrt(2 * jnp.pi))
    t = jnp.float64(1e-8)  # of sigma = t: the data themselves
    expected = data.log_prob(sde)(x, t) + likelihood - log_evidence(data, A, y, sigma_y)
    np.testing.assert_allclose(found.log_prob(sde)(x, t), expected, rtol=1e-9)


def test_a_condition_is_mapped_over_measurements(float64):
    data, A = recorded("mixf"), jnp.asarray(G()["mixf/inpaint/A"])
    y = jnp.asarray(np.random.default_rng(0).standard_normal((3, len(A))))
    many = jax.jit(jax.vmap(lambda y: condition(data, A, y, 0.1).moments()[0]))(y)
    for one, y_k in zip(many, y, strict=True):
        np.testing.assert_allclose(one, condition(data, A, y_k, 0.1).moments()[0], rtol=1e-12)


@pytest.mark.parametrize("sde_name", ["vp", "ve"])
def test_the_law_of_edited_examples(sde_name):
    """Noised to t, then back by the exact posterior of each noised state: both are draws of `edited`."""
    data, sde, n = correlated(), CONTINUOUS[sde_name], 100_000
    x, t = jnp.full((2, 2, 1), 0.7), jnp.float32({"vp": 0.3, "ve": 0.4}[sde_name])
    law = edited(data, sde, t, x)
    z, w = jax.random.normal(root_key(0), (2, n, 2, 2, 1))
    noised = sde.alpha(t) * x[None] + sde.sigma(t) * z
    spread = jnp.linalg.cholesky(data.mixture().covariance(sde)(noised[:1], t)[0])
    back = data.denoiser(sde)(noised, t).reshape(n, -1) + w.reshape(n, -1) @ spread.T
    covariance = np.asarray((law.basis * law.variances[None]) @ law.basis.T)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(back.mean(0) - np.ravel(law.mean)), 4.5 * sd / np.sqrt(n))
    np.testing.assert_array_less(np.abs(np.cov(back.T) - covariance), 4.5 * np.outer(sd, sd) * np.sqrt(2 / n))


def test_draws_of_full_covariances():
    data, n = recorded("mixf"), 50_000
    mean, covariance = data.moments()
    x = np.asarray(data.sample(example_keys(root_key(1), positions(0, n))))
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), 4.5 * sd / np.sqrt(n))
    np.testing.assert_array_less(np.abs(np.cov(x.T) - covariance), 4.5 * np.outer(sd, sd) * np.sqrt(2 / n))


BAD = {
    "A has shape \\(2, 3\\)": lambda d: condition(d, jnp.ones((2, 3)), jnp.ones(2), 0.1),
    "and y \\(3,\\)": lambda d: condition(d, jnp.ones((2, 4)), jnp.ones(3), 0.1),
    "sigma_y=-1.0 must be at least 0": lambda d: log_evidence(d, jnp.ones((2, 4)), jnp.ones(2), -1.0),
    "give one of them": lambda d: mixture(jnp.ones(1), jnp.ones((1, 2))),
    "not symmetric": lambda d: mixture(jnp.ones(1), jnp.ones((1, 2)), covariances=jnp.array([[[1.0, 0.5], [0, 1]]])),
    "eigenvalue": lambda d: mixture(jnp.ones(1), jnp.ones((1, 2)), covariances=jnp.array([[[1.0, 0], [0, -1]]])),
    "need \\(1, 2, 2\\)": lambda d: mixture(jnp.ones(1), jnp.ones((1, 2)), covariances=jnp.eye(3)[None]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(UsageError, match=message):
        BAD[message](bimodal())
