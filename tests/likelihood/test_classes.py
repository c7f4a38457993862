"""Bayes' classifier from likelihoods: the responsibilities of a mixture whose components are the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import bayes, log_likelihood, of_every_class
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.divergence import Exact
from score_sde.sde.analytic import mixture
from score_sde.solvers import RK45
from tests.oracles import CONTINUOUS

KEYS = example_keys(root_key(5), positions(0, 24))
T_MIN = {"vp": 1e-3, "subvp": 1e-3, "ve": 1e-3, "edm": 0.002}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_odes_likelihoods_of_the_classes_give_the_exact_posterior(name):
    """A network that is told the class has the class's score; p_t(k | x) is known in closed form."""
    sde, ones = CONTINUOUS[name], jnp.ones((2, 2, 1))
    data = mixture(jnp.array([1.0, 3.0]), 0.4 * jnp.stack([ones, -ones]), jnp.array([0.5, 0.7]))  # near one another
    x0 = data.sample(KEYS)

    def log_prob(x0, label):
        score = lambda x, t: jnp.where(
            (label == 0)[:, None, None, None], *(data.part((k,)).score(sde)(x, t) for k in (0, 1))
        )
        options = {"divergence": Exact(), "solver": RK45(1e-6, 1e-6), "t_min": T_MIN[name]}
        return log_likelihood(KEYS, score, sde, x0, **options).log_prob[:, 0]

    found = bayes(jax.jit(lambda x0: of_every_class(log_prob, x0, 2))(x0), data.weights)
    exact = data.log_responsibilities(sde)(x0, jnp.float32(T_MIN[name]))
    p, expected = np.exp(found.log_posterior), np.exp(exact)
    prior_is_p_T = name in ("vp", "subvp")
    np.testing.assert_allclose(p, expected, atol=2e-3 if prior_is_p_T else 1e-2)
    assert ((expected > 0.05) & (expected < 0.95)).any()
    sure = np.abs(expected[:, 0] - 0.5) > 0.01
    np.testing.assert_array_equal(np.asarray(found.label)[sure], np.argmax(expected, -1)[sure])


def test_a_class_without_examples_is_never_given():
    found = bayes(jnp.array([[0.0, 50.0, 1.0]]), jnp.array([1.0, 0.0, 3.0]))
    assert found.label.tolist() == [2] and float(found.log_posterior[0, 1]) == -np.inf
    np.testing.assert_allclose(np.exp(found.log_posterior).sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.log_evidence), (1 + 3 * np.e) / 4, rtol=1e-6)
