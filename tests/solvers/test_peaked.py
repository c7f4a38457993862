"""Noise that is most at one level: its law is the data's all the same, and its grid shares it evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import karras, vp
from score_sde.sde.analytic import gaussian
from score_sde.solvers import Data, ExponentialAdams, Peaked, grids
from score_sde.solvers.exponential import node, peaked
from score_sde.solvers.sampling import sample

SDES = {"vp": (vp(), 1e-3), "edm": (karras(20.0), 0.01)}


@pytest.mark.parametrize("name", SDES)
def test_the_law_is_the_datas(name):
    sde, t_min = SDES[name]
    mean, covariance = np.array([0.5, -1.0]), np.array([[1.0, 0.6], [0.6, 0.5]])
    data = gaussian(jnp.asarray(mean, float), jnp.asarray(covariance, float))
    keys, times = example_keys(root_key(0), positions(0, 4000)), grids.peaked(sde, t_min, 800, 3.0, 0.8)
    solver = ExponentialAdams(1, Peaked(3.0, 0.8))
    x = np.asarray(jax.jit(lambda k: sample(k, data.score(sde), sde, (2,), solver=solver, times=times).x)(keys))
    np.testing.assert_allclose(x.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=0.08)


def test_its_noise_is_one_everywhere_or_most_at_its_center():
    sde = vp()
    times = grids.peaked(sde, 1e-3, 12, 1.0, 0.8)
    nodes = node(sde, times)
    a, b = (type(nodes)(*(part[s] for part in nodes)) for s in (slice(None, -1), slice(1, None)))
    for one, other in zip(Peaked(1.0, 0.3).frame(a, b), Data(1.0).frame(a, b)):
        np.testing.assert_array_equal(one, other)
    ratios = jnp.log(jnp.array([1 / 0.3, 1e4, 1e-4]))
    np.testing.assert_allclose(peaked(ratios, 4.0, 0.3), [4.0, 1.0, 1.0], rtol=1e-5)


@pytest.mark.parametrize("name", SDES)
def test_every_step_of_its_grid_puts_back_as_much(name):
    sde, t_min = SDES[name]
    nodes = node(sde, grids.peaked(sde, t_min, 400, 3.0, 0.8))
    assert float(nodes.t[0]) == pytest.approx(sde.T) and float(nodes.t[-1]) == pytest.approx(t_min)
    middle = 0.5 * (nodes.log_ratio[1:] + nodes.log_ratio[:-1])
    share = (1 + peaked(middle, 3.0, 0.8) ** 2) * jnp.diff(nodes.log_ratio)
    np.testing.assert_allclose(share, share.mean(), rtol=0.02)
