"""Analytic data laws against the closed-form goldens, autodiff and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import reverse
from score_sde.sde.analytic import Gaussian, gaussian, mixture
from tests.golden_files import load, relative_error
from tests.oracles import CONTINUOUS, FLOWING, T_MIN, bimodal, correlated, recorded_law


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize("name", ["gauss", "mix"])
def test_golden(float64, name, sde_name):
    g = load("closed_form", "solvers")
    data, sde = recorded_law(name), CONTINUOUS[sde_name]
    at = lambda key: g[f"{name}__{sde_name}__{key}"]
    t, x = at("t"), jnp.asarray(at("xt"))
    score = data.score(sde)
    ours = {
        "alpha": sde.alpha(t),
        "std": sde.sigma(t),
        "g2": sde.diffusion(t) ** 2,
        "score": score(x, t),
        "logp": data.log_prob(sde)(x, t),
        "denoised": data.denoiser(sde)(x, t),
        "eps": -sde.sigma(t)[:, None] * score(x, t),
        "pf_drift": reverse(sde, score, churn=0.0).drift(x, t),
    }
    for key, value in ours.items():
        assert relative_error(value, at(key)) < 1e-9, key
    drift = reverse(sde, score, churn=0.0).drift
    divergence = jax.vmap(lambda x, t: jnp.trace(jax.jacfwd(lambda y: drift(y[None], t)[0])(x)))(x, t)
    assert relative_error(divergence, at("pf_div")) < 1e-8


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize("make", [correlated, bimodal])
def test_score_is_the_gradient_of_log_prob(float64, make, sde_name):
    data, sde = make(), CONTINUOUS[sde_name]
    x = data.sample(example_keys(root_key(0), positions(0, 3)))
    t = jnp.array([0.01, 0.3, 0.9])
    gradient = jax.grad(lambda x: data.log_prob(sde)(x, t).sum())(x)
    assert relative_error(data.score(sde)(x, t), gradient) < 1e-10
    assert relative_error(data.score(sde)(x, 0.3), jax.grad(lambda x: data.log_prob(sde)(x, 0.3).sum())(x)) < 1e-10


@pytest.mark.parametrize("sde_name", FLOWING)
def test_flow_solves_the_probability_flow_ode(float64, sde_name):
    """d/ds flow(x_t, t, s) is the drift at (x_s, s), the map is the identity at s = t, and it composes."""
    data, sde = correlated(), FLOWING[sde_name]
    x = data.sample(example_keys(root_key(0), positions(0, 2)))
    flow, drift = data.flow(sde), reverse(sde, data.score(sde), churn=0.0).drift
    value, slope = jax.jvp(lambda s: flow(x, 0.8, s), (0.3,), (1.0,))
    assert relative_error(slope, drift(value, 0.3)) < 1e-10
    assert relative_error(flow(x, 0.8, 0.8), x) < 1e-12
    assert relative_error(flow(value, 0.3, T_MIN[sde_name]), flow(x, 0.8, T_MIN[sde_name])) < 1e-10


@pytest.mark.parametrize("make", [correlated, bimodal])
def test_draws_have_the_stated_moments(make):
    data, n = make(), 20_000
    x = np.asarray(data.sample(example_keys(root_key(1), positions(0, n)))).reshape(n, -1)
    if isinstance(data, Gaussian):
        mean, cov = np.ravel(data.mean), np.asarray(data.basis * data.variances[None]) @ np.asarray(data.basis).T
    else:
        w, mu = np.asarray(data.weights), np.asarray(data.means).reshape(2, -1)
        mean = w @ mu
        cov = (mu.T * w) @ mu - np.outer(mean, mean) + np.eye(4) * (w @ np.asarray(data.stds) ** 2)
    sd = np.sqrt(np.diag(cov))
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), 4.5 * sd / np.sqrt(n))
    np.testing.assert_array_less(np.abs(np.cov(x.T) - cov), 4.5 * np.outer(sd, sd) * np.sqrt(2 / n))


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="shape"):
        gaussian(jnp.zeros(3), jnp.eye(2))
    with pytest.raises(UsageError, match="eigenvalue"):
        gaussian(jnp.zeros(2), jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(UsageError, match="components"):
        mixture(jnp.ones(2), jnp.zeros((3, 1)), jnp.ones(2))
    with pytest.raises(UsageError, match="stds"):
        mixture(jnp.ones(2), jnp.zeros((2, 1)), jnp.array([1.0, 0.0]))
