"""DDPM's chain as an SDE: its tables, its kernels, its sampling algorithm, and its schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.scores.parametrization import ve_levels, vp_levels
from score_sde.scores.posterior import Large, Small
from score_sde.sde import VP, transition
from score_sde.sde.analytic import gaussian
from score_sde.sde.chain import cosine_betas, linear_betas, vp_chain
from score_sde.solvers import Ancestral, grids
from score_sde.solvers.sampling import sample
from tests.golden_files import agree, relative_error


def test_golden_tables():
    sde, nodes = vp_chain(linear_betas()), jnp.arange(1, 1001) / 1000
    agree(linear_betas(), "sde", "vp/discrete_betas", "SDEs")
    agree(sde.alpha(nodes) ** 2, "sde", "vp/alphas_cumprod", "SDEs")
    agree(sde.alpha(nodes), "sde", "vp/sqrt_alphas_cumprod", "SDEs")
    agree(sde.sigma(nodes), "sde", "vp/sqrt_1m_alphas_cumprod", "SDEs")


@pytest.mark.parametrize("betas", [linear_betas(50), cosine_betas(50)], ids=["linear", "cosine"])
def test_kernels_between_nodes_are_the_chains(float64, betas):
    sde, nodes = vp_chain(betas), np.arange(51) / 50
    a, b = transition(sde, nodes[:-1], nodes[1:])
    np.testing.assert_allclose(a, np.sqrt(1 - betas), rtol=1e-9)
    np.testing.assert_allclose(b**2, betas, rtol=1e-9)


def test_the_chain_and_its_limit_differ_most_at_the_least_noise(float64):
    """4.6 % in sigma at t = 1 / N for N = 1000, and less from there on."""
    t = np.arange(1, 1001) / 1000
    ratio = np.asarray(vp_chain(linear_betas()).sigma(t) / VP().sigma(t))
    np.testing.assert_allclose(ratio[0], 0.954, atol=1e-3)
    assert np.abs(ratio - 1).argmax() == 0


def test_the_cosine_schedule_is_a_squared_cosine_until_it_is_clipped(float64):
    sde, t = vp_chain(cosine_betas(100)), np.arange(1, 100) / 100
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(sde.alpha(t) ** 2, f(t) / f(0), rtol=1e-9)
    assert cosine_betas(100)[-1] == 0.999


@pytest.mark.parametrize(("variance", "name"), [(Small(), "small"), (Large(), "large")])
def test_ancestral_steps_over_all_levels_are_ddpms_algorithm(float64, variance, name):
    """Ho et al. 2020, algorithm 2, in numpy with its own tables, on the same noise and network."""
    n, betas = 20, linear_betas(20, 0.1, 12.0)
    sde, levels = vp_chain(betas), vp_levels(20)
    network = lambda x, i: 0.4 * x + np.sin(x) * (i + 1) / n
    score = lambda x, t: -network(x, levels(sde, jnp.asarray(t))) / sde.sigma(t)
    grid = np.asarray(grids.levels(sde, levels, n))
    z = np.random.default_rng(0).normal(size=(n, 3, 2))
    ours = z[0]
    for k in range(n - 1):
        ours = Ancestral(variance).update(sde, score, ours, grid[k], grid[k + 1], z[k + 1]).x
    ours = (ours + sde.sigma(grid[-1]) ** 2 * score(ours, grid[-1])) / sde.alpha(grid[-1])

    alphas, bars = 1 - betas, np.cumprod(1 - betas)
    x = z[0]
    for i in reversed(range(n)):
        x = (x - betas[i] / np.sqrt(1 - bars[i]) * network(x, i)) / np.sqrt(alphas[i])
        if i > 0:
            small = betas[i] * (1 - bars[i - 1]) / (1 - bars[i])
            x = x + np.sqrt(small if name == "small" else betas[i]) * z[n - i]
    assert relative_error(ours, x) < 1e-9


def law_after(sde, grid, variance):
    """The exact variance of DDPM's samples of N(0, variance) data: every update is linear."""
    alpha, sigma = np.asarray(sde.alpha(grid)), np.asarray(sde.sigma(grid))
    marginal, spread = alpha**2 * variance + sigma**2, 1.0
    for k in range(len(grid) - 1):
        a = alpha[k] / alpha[k + 1]
        b2 = sigma[k] ** 2 - a**2 * sigma[k + 1] ** 2
        spread = ((1 - b2 / marginal[k]) / a) ** 2 * spread + b2 * (sigma[k + 1] / sigma[k]) ** 2
    return ((1 - sigma[-1] ** 2 / marginal[-1]) / alpha[-1]) ** 2 * spread


@pytest.mark.parametrize("count", [200, 40])
def test_gaussian_data_is_sampled_with_the_chains_law(float64, count):
    """On all levels, and on every fifth; the small variance leaves out the spread of x_0 given x_t."""
    data, sde = gaussian(jnp.ones(2), jnp.array([[0.3, 0.1], [0.1, 0.2]])), vp_chain(linear_betas(200, 0.1, 20.0))
    keys, grid = example_keys(root_key(0), positions(0, 4096)), grids.levels(sde, vp_levels(200), count)
    draws = jax.jit(lambda k, g: sample(k, data.score(sde), sde, (2,), solver=Ancestral(), times=g))(keys, grid)
    assert int(draws.evaluations) == count
    x = (np.asarray(draws.x) - 1) @ np.asarray(data.basis)
    expected = [law_after(sde, np.asarray(grid), float(v)) for v in data.variances]
    np.testing.assert_allclose(x.var(0) / expected, 1, atol=5 * np.sqrt(2 / 4096))
    np.testing.assert_allclose(expected, data.variances, rtol=20 / count)
    np.testing.assert_allclose(x.mean(0), 0, atol=5 * np.sqrt(0.35 / 4096) + 0.01)


def test_levels_grid_is_decreasing_and_refuses_more_levels_than_there_are():
    sde, levels = vp_chain(linear_betas(10, 0.1, 5.0)), vp_levels(10)
    np.testing.assert_allclose(grids.levels(sde, levels, 10), np.arange(10, 0, -1) / 10, rtol=1e-6)
    np.testing.assert_allclose(grids.levels(sde, levels, 4), [1.0, 0.7, 0.4, 0.1], rtol=1e-6)
    for law in (levels, ve_levels(10)):
        np.testing.assert_array_equal(grids.levels(sde, law, 1), [1.0])
    with pytest.raises(UsageError, match="num_steps=11"):
        grids.levels(sde, levels, 11)


@pytest.mark.parametrize(("betas", "message"), [([0.1], "two or more"), ([0.1, 1.0], "1."), ([0.0, 0.1], "0.")])
def test_bad_betas_are_refused(betas, message):
    with pytest.raises(UsageError, match=message):
        vp_chain(np.asarray(betas))


def test_a_chain_takes_the_precision_of_what_it_meets():
    sde, t = vp_chain(linear_betas()), np.array([1e-3, 0.1234, 1.0])
    single = [np.asarray(f(jnp.asarray(t, jnp.float32))) for f in (sde.sigma, sde.diffusion, sde.log_snr)]
    with jax.enable_x64(True):
        double = [np.asarray(f(jnp.asarray(t))) for f in (sde.sigma, sde.diffusion, sde.log_snr)]
    for a, b in zip(single, double):
        assert (a.dtype, b.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(a, b, rtol=1e-5)
    keys = example_keys(root_key(0), positions(0, 2))
    assert normal(keys, (2,)).dtype == jax.jit(lambda sde, x: sde.drift(x, 0.5))(sde, normal(keys, (2,))).dtype
