"""Examples of which a part is there: score, loss and likelihood are those of that part alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import log_likelihood
from score_sde.objectives.denoising import UniformTimes, denoising_loss, draw, half_sum, likelihood, mean
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.divergence import Exact
from score_sde.scores.subspace import completed, elements, filled, rest_log_prob
from score_sde.sde.analytic import gaussian
from score_sde.solvers import RK45
from tests.golden_files import relative_error
from tests.oracles import CONTINUOUS

THERE = np.array([[True, False, True, True, False], [True, True, False, True, True], [True] * 5])
COVARIANCE = np.cov(np.random.default_rng(0).normal(size=(5, 40)))
MEAN = np.arange(5) / 4


def whole(present):
    """The law of the elements that are there beside N(0, 1) in the place of the others."""
    both = present[:, None] & present[None]
    return gaussian(jnp.asarray(MEAN * present), jnp.asarray(np.where(both, COVARIANCE, np.eye(5))))


def parts(present):
    own = np.flatnonzero(present)
    return gaussian(jnp.asarray(MEAN[own]), jnp.asarray(COVARIANCE[np.ix_(own, own)]))


def of_rows(law, x, t):
    """Every example by the law of its own row, as a network would that is told what is there."""
    return jnp.concatenate([law(THERE[i], x[i : i + 1], t if jnp.ndim(t) == 0 else t[i : i + 1]) for i in range(3)])


def own_score(sde):
    """Of the part that is there; elsewhere nonsense, which may not matter."""

    laws = {tuple(present): parts(present) for present in THERE}

    def one(present, x, t):
        own = np.flatnonzero(present)
        found = jnp.full(x.shape, 7.0) + 3 * x
        return found.at[:, own].set(laws[tuple(present)].score(sde)(x[:, own], t))

    return lambda x, t: of_rows(one, x, t)


@pytest.fixture
def x(float64):
    return jnp.asarray(np.random.default_rng(1).normal(size=(3, 5)))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_score_of_all_is_exact(name, x):
    sde, space = CONTINUOUS[name], elements(jnp.asarray(THERE))
    for t in (jnp.asarray(0.3), jnp.array([0.01, 0.3, 0.9])):
        found = completed(own_score(sde), sde, space)(x, t)
        assert relative_error(found, of_rows(lambda p, x, t: whole(p).score(sde)(x, t), x, t)) < 1e-12


@pytest.mark.parametrize("name", CONTINUOUS)
def test_likelihood_of_what_is_there(name, x):
    """log p of all by the ODE, less what the rest has of it: that of the elements that are there."""
    sde, space, t_min = CONTINUOUS[name], elements(jnp.asarray(THERE)), 1e-3
    x0, keys = space.project(x), example_keys(root_key(0), positions(0, 3))
    options = {"divergence": Exact(), "solver": RK45(1e-9, 1e-9), "t_min": t_min}
    found = log_likelihood(keys, completed(own_score(sde), sde, space), sde, x0, **options).log_prob[:, 0]
    found = found - rest_log_prob(sde, space, x0, t_min)
    for i, present in enumerate(THERE):
        law, own = parts(present), np.flatnonzero(present)
        alone = log_likelihood(keys[:1], law.score(sde), sde, x0[i : i + 1, own], **options).log_prob[0, 0]
        assert abs(found[i] - alone) < 1e-6


def test_loss_is_of_what_is_there(x):
    sde, keys, space = CONTINUOUS["vp"], example_keys(root_key(2), positions(0, 3)), elements(jnp.asarray(THERE))
    score, times = own_score(sde), UniformTimes(1e-3)
    x0 = space.project(x)
    t, _, z = draw(keys, sde, x0, times)
    for reduction in (mean, half_sum):
        options = {"weighting": likelihood, "times": times, "reduction": reduction}
        found = denoising_loss(keys, score, sde, x0, space=space, **options)
        for i, present in enumerate(THERE):
            own = np.flatnonzero(present)
            x_t = sde.alpha(t[i]) * x0[i, own] + sde.sigma(t[i]) * z[i, own]
            r = sde.sigma(t[i]) * parts(present).score(sde)(x_t[None], t[i])[0] + z[i, own]
            expected = likelihood(sde, t[i : i + 1])[0] * (jnp.mean(r**2) if reduction is mean else 0.5 * jnp.sum(r**2))
            assert relative_error(found[i], expected) < 1e-10


def test_whole_examples_have_the_plain_loss(x):
    sde, keys = CONTINUOUS["vp"], example_keys(root_key(2), positions(0, 3))
    score = gaussian(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)).score(sde)
    options = {"weighting": likelihood, "times": UniformTimes(1e-3)}
    space = elements(jnp.ones((3, 5), bool))
    found = denoising_loss(keys, score, sde, x, space=space, **options)
    assert relative_error(found, denoising_loss(keys, score, sde, x, **options)) < 1e-12


def test_nothing_there_costs_nothing(x):
    sde, keys = CONTINUOUS["vp"], example_keys(root_key(2), positions(0, 3))
    space = elements(jnp.zeros((3, 5), bool))
    loss = denoising_loss(keys, lambda x, t: x + 1, sde, x, weighting=likelihood, times=UniformTimes(1e-3), space=space)
    assert not np.any(loss)


def test_filled():
    x, there = filled(jnp.array([[1.0, jnp.nan], [jnp.nan, -jnp.inf]]))
    np.testing.assert_array_equal(x, [[1, 0], [0, -np.inf]])
    np.testing.assert_array_equal(there, [[True, False], [False, True]])
