"""Denoising score matching: the official values, its minimiser, laws of t and their variance, reductions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde import losses
from score_sde.chain import linear_betas, vp_chain
from score_sde.losses import (
    LikelihoodTimes,
    UniformTimes,
    denoising_loss,
    denoising_loss_at,
    half_sum,
    likelihood,
    mean,
)
from score_sde.losses import simple as simple_weighting
from score_sde.parametrization import Noise, Parametrization, Score, ve_levels, vp_levels
from score_sde.rng import example_keys, low_discrepancy, positions, root_key
from tests.golden_files import agree, load, relative_error
from tests.oracles import CHAINS, FAKE, FAKE_LEVELS, SDES, correlated, official_numerics

WEIGHTINGS = {0: simple_weighting, 1: likelihood}
REDUCTIONS = {0: half_sum, 1: mean}


def loss_of(score, sde, t, reduce_mean, lw=0):
    golden = load("losses")
    x, z = (jnp.asarray(golden[k], float) for k in ("x", "z"))
    options = {"weighting": WEIGHTINGS[lw], "reduction": REDUCTIONS[reduce_mean]}
    return jnp.mean(denoising_loss_at(score, sde, x, jnp.asarray(t, float), z, **options))


def continuous_loss(sde, name, reduce_mean, lw):
    parametrization, network = FAKE[name]
    return loss_of(parametrization(network, sde), sde, load("losses")["t"], reduce_mean, lw)


@pytest.mark.parametrize(("name", "reduce_mean", "lw"), list(itertools.product(SDES, (0, 1), (0, 1))))
def test_golden(name, reduce_mean, lw):
    ours = continuous_loss(official_numerics(name), name, reduce_mean, lw)
    agree(ours, "losses", f"{name}/loss_reducemean{reduce_mean}_lw{lw}", "losses")


@pytest.mark.parametrize(("name", "reduce_mean", "lw"), list(itertools.product(("vp", "subvp"), (0, 1), (0, 1))))
def test_golden_of_a_discrete_score(name, reduce_mean, lw):
    """A continuous loss of a network told fractional levels, as the official code allows; sub-VP has none."""
    score = CHAINS[name].score(FAKE[name][1], continuous=False)
    if name == "subvp":
        score = FAKE[name][0](FAKE[name][1], official_numerics(name))
    ours = loss_of(score, official_numerics(name), load("losses")["t"], reduce_mean, lw)
    agree(ours, "losses", f"{name}/loss_reducemean{reduce_mean}_lw{lw}_discretescorefn", "losses")


@pytest.mark.parametrize("reduce_mean", [0, 1])
def test_golden_ddpm(reduce_mean):
    """L_simple on the levels of the chain."""
    levels, sde = vp_levels(1000), vp_chain(linear_betas())
    score = Parametrization(Noise(), levels)(FAKE["vp"][1], sde)
    ours = loss_of(score, sde, levels.time(sde, load("losses")["labels_vp"]), reduce_mean)
    agree(ours, "losses", f"ddpm/loss_reducemean{reduce_mean}", "losses")


@pytest.mark.parametrize("reduce_mean", [0, 1])
def test_golden_smld(float64, reduce_mean):
    levels, sde = ve_levels(1000), SDES["ve"]
    score = Parametrization(Score(), levels)(FAKE_LEVELS, sde)
    ours = loss_of(score, sde, levels.time(sde, load("losses")["labels_ve"]), reduce_mean)
    agree(ours, "losses", f"smld/loss_reducemean{reduce_mean}", "losses")


@pytest.mark.parametrize(("name", "reduce_mean"), list(itertools.product(("vp", "subvp"), (0, 1))))
def test_the_corrected_numerics_differ_where_the_official_ones_cancel(name, reduce_mean):
    """sigma^2 weighting hardly feels it; g^2 / sigma^2 at t = 1e-5 does, by 2 d sigma / sigma, 1.2 and 2.4 %."""
    golden = load("losses")
    ours = [continuous_loss(SDES[name], name, reduce_mean, lw) for lw in (0, 1)]
    theirs = [golden[f"{name}/loss_reducemean{reduce_mean}_lw{lw}"] for lw in (0, 1)]
    assert relative_error(ours[0], theirs[0]) < 1e-4
    assert 0.5e-2 < relative_error(ours[1], theirs[1]) < 3e-2


def keys_and_u(n: int, seed: int = 0, stratified: bool = False):
    key, position = root_key(seed), positions(0, n)
    return example_keys(key, position), low_discrepancy(key, jnp.asarray(position)) if stratified else None


@pytest.mark.parametrize("name", SDES)
def test_the_exact_score_minimises_the_loss(float64, name):
    """Scaling and shifting the exact score of Gaussian data: the gradient of the mean loss vanishes at the truth."""
    data, sde, n = correlated(), SDES[name], 4096
    keys, u = keys_and_u(n, stratified=True)
    x0 = data.sample(example_keys(root_key(9), positions(0, n)))

    def per_example(change):
        score = lambda x, t: (1 + change[0]) * data.score(sde)(x, t) + change[1] / sde.sigma(t)[:, None, None, None]
        return denoising_loss(keys, score, sde, x0, weighting=simple_weighting, times=UniformTimes(1e-3), u=u)

    slopes = jax.jacfwd(per_example)(jnp.zeros(2))
    curvature = jax.hessian(lambda c: per_example(c).mean())(jnp.zeros(2))
    standard_error = slopes.std(0) / np.sqrt(n)
    assert (np.abs(slopes.mean(0)) < 4 * standard_error).all()
    assert (np.linalg.eigvalsh(curvature) > 20 * standard_error.max()).all()


@pytest.mark.parametrize("name", SDES)
def test_importance_sampling_has_the_same_mean_and_less_variance(name):
    """E loss is the same under both laws of t; its variance falls at least 10-fold (VE: the laws coincide)."""
    data, sde, n = correlated(), SDES[name], 20_000
    keys, _ = keys_and_u(n)
    x0 = data.sample(example_keys(root_key(9), positions(0, n)))
    score = lambda x, t: 0.5 * data.score(sde)(x, t)

    @jax.jit
    def both():
        laws = UniformTimes(1e-3), LikelihoodTimes(1e-3)
        return [denoising_loss(keys, score, sde, x0, weighting=likelihood, times=law) for law in laws]

    uniform, importance = (np.asarray(v, np.float64) for v in both())
    standard_error = np.hypot(uniform.std(), importance.std()) / np.sqrt(n)
    assert abs(uniform.mean() - importance.mean()) < 4 * standard_error
    ratio = uniform.var() / importance.var()
    assert ratio > (0.99 if name == "ve" else 10), ratio


@pytest.mark.parametrize("name", SDES)
def test_importance_density_is_normalised_and_in_range(name):
    """1 / ratio is the density over the uniform one, so E ratio = 1 and, weighted, every factor is equal."""
    sde, law = SDES[name], LikelihoodTimes(1e-5)
    t, ratio = law(sde, (jnp.arange(4096) + 0.5) / 4096)
    assert t.min() >= 1e-5
    assert t.max() <= sde.T
    np.testing.assert_allclose(ratio.mean(), 1, rtol=2e-2)
    factors = np.asarray(ratio * likelihood(sde, t))
    np.testing.assert_allclose(factors, factors[0], rtol=1e-5)
    np.testing.assert_allclose(np.diff(np.asarray(sde.log_snr(t))).std(), 0, atol=2e-3)


def test_stratified_times_reduce_the_variance_of_a_batch():
    """A loss that depends on t above all: 64 stratified times have 0.15 of the variance of 64 plain ones."""
    sde, size = SDES["vp"], 64

    @jax.jit
    def batch_means(seed):
        key = jax.random.fold_in(root_key(0), seed)
        position = jnp.asarray(positions(0, size))
        zero = lambda x, t: jnp.zeros_like(x)
        options = {"weighting": likelihood, "times": UniformTimes(1e-2)}
        return [
            denoising_loss(example_keys(key, position), zero, sde, jnp.zeros((size, 256)), **options, u=u).mean()
            for u in (None, low_discrepancy(key, position))
        ]

    plain, stratified = (np.asarray(v) for v in jax.lax.map(batch_means, jnp.arange(500)))
    standard_error = np.hypot(plain.std(), stratified.std()) / np.sqrt(500)
    assert abs(plain.mean() - stratified.mean()) < 4 * standard_error
    assert stratified.var() < 0.25 * plain.var()


def test_reductions_by_hand():
    squares = jnp.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_allclose(losses.mean(squares), [2.5, 8.5])
    np.testing.assert_allclose(losses.half_sum(squares), [7.5, 25.5])


def test_an_examples_loss_does_not_know_its_batch():
    data, sde = correlated(), SDES["subvp"]
    keys, _ = keys_and_u(8)
    x0 = data.sample(keys)
    loss = jax.jit(
        lambda k, x: denoising_loss(k, data.score(sde), sde, x, weighting=likelihood, times=LikelihoodTimes())
    )
    np.testing.assert_allclose(loss(keys, x0)[3:5], loss(keys[3:5], x0[3:5]), rtol=1e-5)
