"""Denoising score matching: the official values, its minimiser, laws of t and their variance, reductions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr

from score_sde.objectives import denoising
from score_sde.objectives.denoising import (
    EDM,
    LikelihoodTimes,
    LogNormalTimes,
    UniformTimes,
    denoising_loss,
    denoising_loss_at,
    half_sum,
    likelihood,
    mean,
)
from score_sde.objectives.denoising import simple as simple_weighting
from score_sde.rng import example_keys, low_discrepancy, positions, root_key
from score_sde.scores.parametrization import Noise, Parametrization, Preconditioned, Score, ve_levels, vp_levels
from score_sde.sde import VE, karras
from score_sde.sde.chain import linear_betas, vp_chain
from score_sde.typing import expand
from tests.golden_files import agree, load, relative_error
from tests.oracles import (
    CHAINS,
    CONTINUOUS,
    FAKE,
    FAKE_LEVELS,
    FLOWING,
    SDES,
    correlated,
    official_numerics,
    recorded_law,
)

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


@pytest.mark.parametrize("name", FLOWING)
def test_the_exact_score_minimises_the_loss(float64, name):
    """Scaling and shifting the exact score of Gaussian data: the gradient of the mean loss vanishes at the truth."""
    data, sde, n = correlated(), FLOWING[name], 4096
    keys, u = keys_and_u(n, stratified=True)
    x0 = data.sample(example_keys(root_key(9), positions(0, n)))

    def per_example(change):
        score = lambda x, t: (1 + change[0]) * data.score(sde)(x, t) + change[1] / sde.sigma(t)[:, None, None, None]
        return denoising_loss(keys, score, sde, x0, weighting=simple_weighting, times=UniformTimes(1e-3), u=u)

    both = jax.jit(lambda c: (jax.jacfwd(per_example)(c), jax.hessian(lambda c: per_example(c).mean())(c)))
    slopes, curvature = both(jnp.zeros(2))
    standard_error = slopes.std(0) / np.sqrt(n)
    assert (np.abs(slopes.mean(0)) < 4 * standard_error).all()
    assert (np.linalg.eigvalsh(curvature) > 20 * standard_error.max()).all()


@pytest.mark.parametrize("name", FLOWING)
def test_importance_sampling_has_the_same_mean_and_less_variance(name):
    """E loss is the same under both laws of t; its variance falls at least 10-fold (VE: the laws coincide)."""
    data, sde, n = correlated(), FLOWING[name], 20_000
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


@pytest.mark.parametrize("name", CONTINUOUS)
def test_importance_density_is_normalised_and_in_range(name):
    """1 / ratio is the density over the uniform one, so E ratio = 1 and, weighted, every factor is equal."""
    sde, law = CONTINUOUS[name], LikelihoodTimes(1e-5)
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
    np.testing.assert_allclose(denoising.mean(squares), [2.5, 8.5])
    np.testing.assert_allclose(denoising.half_sum(squares), [7.5, 25.5])


def test_an_examples_loss_does_not_know_its_batch():
    data, sde = correlated(), SDES["subvp"]
    keys, _ = keys_and_u(8)
    x0 = data.sample(keys)
    loss = jax.jit(
        lambda k, x: denoising_loss(k, data.score(sde), sde, x, weighting=likelihood, times=LikelihoodTimes())
    )
    np.testing.assert_allclose(loss(keys, x0)[3:5], loss(keys[3:5], x0[3:5]), rtol=1e-5)


EDM_LOSSES = {  # name -> SDE, its law, which quantile of it a recorded random number stands for, weighting
    "vpLoss": (SDES["vp"], UniformTimes(1e-5), lambda rnd: 1 - rnd, simple_weighting),
    "veLoss": (VE(0.02, 100.0), UniformTimes(0.0), lambda rnd: rnd, simple_weighting),
    **{name: (sde, LogNormalTimes(), ndtr, EDM(0.5)) for name, sde in CONTINUOUS.items()},
}


@pytest.mark.parametrize("law", ["gauss", "mix"])
@pytest.mark.parametrize("name", EDM_LOSSES)
def test_golden_of_edms_losses(float64, name, law):
    """Elementwise, for the exact denoiser; EDM's own loss under every SDE, as sigma / alpha is all that it sees."""
    sde, times, quantile, weighting = EDM_LOSSES[name]
    file = f"{name if name.endswith('Loss') else 'edmLoss'}__{law}__"
    rnd, y, z = (jnp.asarray(load("edm_precond_loss", "solvers")[file + key]) for key in ("rnd", "y", "noise"))
    t, ratio = times(sde, quantile(rnd))
    x, sigma = denoising.perturb(sde, y, t, z)
    loss = expand(ratio * weighting(sde, t), y) * denoising.denoising(
        None, recorded_law(law).score(sde), x, t, sigma, z
    )
    agree(sde.sigma(t) / sde.alpha(t), "edm_precond_loss", file + "sigma", "EDM", folder="solvers")
    agree(loss, "edm_precond_loss", file + "loss", "EDM", folder="solvers")


def test_golden_weight_of_edm(float64):
    """Karras et al. weight the squared error of x_0, which is r^2 times our squared residual."""
    r = jnp.asarray(load("edm_precond_loss", "solvers")["sigma"])
    agree(EDM(0.5)(karras(), r) / r**2, "edm_precond_loss", "edm_weight", "EDM", folder="solvers")


def test_golden_of_edm2s_loss_without_its_uncertainty(float64):
    """With u = 0: loss -> (loss - u) e^u."""
    recorded = load("edm2_ema_loss", "solvers")
    rnd, y, z, u = (jnp.asarray(recorded[f"loss__{key}"]) for key in ("rnd", "y", "noise", "logvar"))
    sde = karras()
    t, _ = LogNormalTimes(-0.4, 1.0)(sde, ndtr(rnd))
    x, sigma = denoising.perturb(sde, y, t, z)
    squares = denoising.denoising(None, recorded_law("mix").score(sde), x, t, sigma, z)
    loss = expand(EDM(0.5)(sde, t) * jnp.exp(-u), y) * squares + expand(u, y)
    agree(t, "edm2_ema_loss", "loss__sigma", "EDM", folder="solvers")
    agree(loss, "edm2_ema_loss", "loss__loss", "EDM", folder="solvers")


@pytest.mark.parametrize("name", CONTINUOUS)
def test_edms_loss_of_a_network_that_returns_zero_is_one_at_every_level(float64, name):
    """What its weighting is for: for data of standard deviation sigma_data, exact as r is linear in x_0 and z."""
    sde, s = CONTINUOUS[name], 0.5
    t = jnp.array([0.01, 0.1, 0.5, 1.0]) * sde.T
    score = lambda x, t: Preconditioned(s).score(jnp.zeros_like(x), x, sde, t)

    def loss(x0: float, z: float):
        x, sigma = denoising.perturb(sde, x0 * jnp.ones_like(t), t, z * jnp.ones_like(t))
        return EDM(s)(sde, t) * denoising.denoising(None, score, x, t, sigma, z * jnp.ones_like(t))

    np.testing.assert_allclose(loss(s, 0.0) + loss(0.0, 1.0), 1, rtol=1e-9)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_noise_levels_of_edm_are_log_normal(name):
    """On a fine grid of quantiles; the smallest and largest u there are give finite times in [0, T]."""
    sde, law = CONTINUOUS[name], LogNormalTimes(-0.4, 0.8)
    t, ratio = law(sde, (jnp.arange(4096) + 0.5) / 4096)
    level = -0.5 * np.asarray(sde.log_snr(t))
    np.testing.assert_allclose(level.mean(), -0.4, atol=2e-3)
    np.testing.assert_allclose(level.std(), 0.8, rtol=2e-3)
    np.testing.assert_array_equal(ratio, 1)
    ends, _ = LogNormalTimes()(sde, jnp.array([0.0, 2.0**-24, 1 - 2.0**-24], jnp.float32))
    assert np.isfinite(ends).all()
    assert 0 <= ends[0] <= ends[1] < ends[2] <= sde.T
