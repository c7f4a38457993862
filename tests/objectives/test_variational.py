"""The variational bound: its closed form on Gaussian data, its tightness, the decoder, the losses made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from score_sde.objectives.denoising import mean, simple
from score_sde.objectives.variational import (
    BoundLoss,
    Discretized,
    HybridLoss,
    bits_per_dim,
    gaussian_decoder,
    variational_bound,
)
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.parametrization import vp_levels
from score_sde.scores.posterior import Large, Learned, Small
from score_sde.sde import VE
from score_sde.sde.analytic import gaussian
from score_sde.sde.chain import cosine_betas, linear_betas, vp_chain
from score_sde.solvers import grids

N, M, V = 12, 0.5, 0.4  # levels; the data is N(M, V) per dimension
CHAINS = {"linear": linear_betas(N, 0.1, 8.0), "cosine": cosine_betas(N)}
VARIANCES = {"small": Small(), "large": Large(), "learned": Learned(lambda x, t: jnp.full_like(x, 0.3))}
COUNT = 20_000
KEYS = example_keys(root_key(0), positions(0, COUNT))


def data():
    return gaussian(jnp.full(2, M), V * jnp.eye(2))


def linear_score(sde, shift=0.2, factor=0.8):
    """A model that is wrong in mean and scale: the score of N(M + shift, factor V)."""
    model = lambda t: sde.alpha(t) ** 2 * V * factor + sde.sigma(t) ** 2
    return lambda x, t: -(x - jnp.reshape(sde.alpha(t) * (M + shift), (-1, 1))) / jnp.reshape(model(t), (-1, 1))


def closed_form(betas, name, shift=0.2, factor=0.8):
    """(L_T, sum of L_k, L_0) per dimension in numpy, from DDPM's own tables."""
    bars = np.cumprod(1 - betas)
    before = np.append(1.0, bars[:-1])
    small = betas * (1 - before) / (1 - bars)
    small[0] = small[1]  # at the last step the posterior's variance is 0
    large = betas.copy()
    if name == "large":
        large[0] = small[1]
    chosen = {"small": small, "large": large, "learned": np.exp(0.3 * np.log(large) + 0.7 * np.log(small))}[name]

    def error(i):
        """E (posterior mean - model mean)^2, with x_i = sqrt(bar) x_0 + sqrt(1 - bar) z."""
        of_x0 = np.sqrt(before[i]) * betas[i] / (1 - bars[i])
        of_x = np.sqrt(1 - betas[i]) * (1 - before[i]) / (1 - bars[i])
        marginal = bars[i] * V * factor + 1 - bars[i]
        slope = (1 - betas[i] / marginal) / np.sqrt(1 - betas[i])
        constant = betas[i] / marginal * np.sqrt(bars[i]) * (M + shift) / np.sqrt(1 - betas[i])
        on_x0, on_z = of_x0 + (of_x - slope) * np.sqrt(bars[i]), (of_x - slope) * np.sqrt(1 - bars[i])
        return (on_x0 * M - constant) ** 2 + on_x0**2 * V + on_z**2

    steps = sum(
        0.5 * (small[i] / chosen[i] - 1 - np.log(small[i] / chosen[i]) + error(i) / chosen[i])
        for i in range(1, len(betas))
    )
    last = 0.5 * (np.log(2 * np.pi * chosen[0]) + error(0) / chosen[0])
    prior = 0.5 * (1 - bars[-1] - 1 - np.log(1 - bars[-1]) + bars[-1] * (M**2 + V))
    return prior, steps, last


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("name", CHAINS)
def test_every_term_has_its_closed_form_on_gaussian_data(float64, name, variance):
    sde, levels = vp_chain(CHAINS[name]), vp_levels(N)
    x0 = data().sample(example_keys(root_key(5), positions(0, COUNT)))
    bound = jax.jit(
        lambda: variational_bound(
            KEYS,
            linear_score(sde),
            sde,
            x0,
            times=grids.levels(sde, levels, N),
            variance=VARIANCES[variance],
            decoder=gaussian_decoder,
        )
    )()
    for ours, exact in zip(bound, closed_form(CHAINS[name], variance)):
        assert abs(ours.mean() - 2 * exact) < 4 * ours.std() / np.sqrt(COUNT)


def exact_variance(betas):
    """Of N(M, V): log Var(x_s | x_t) as a fraction between the logarithms of small and large, level by level."""
    bars = np.cumprod(1 - betas)
    before = np.append(1.0, bars[:-1])
    small = betas * (1 - before) / (1 - bars)
    remaining = 1 / (1 / V + bars / (1 - bars))
    best = small + (np.sqrt(before) * betas / (1 - bars)) ** 2 * remaining
    small[0] = small[1]
    return (np.log(best) - np.log(small)) / (np.log(betas) - np.log(small))


def test_the_bound_is_the_likelihood_where_the_model_is_exact(float64):
    """Exact score and variances: what is left above the entropy is KL(p_T || prior), in every dimension."""
    betas, levels = CHAINS["linear"], vp_levels(N)
    sde, bar = vp_chain(betas), float(np.prod(1 - betas))
    x0 = data().sample(example_keys(root_key(5), positions(0, COUNT)))
    fraction, score = jnp.asarray(exact_variance(betas)), linear_score(sde, 0.0, 1.0)
    of_level = lambda x, t: jnp.full_like(x, 1.0) * fraction[levels(sde, jnp.atleast_1d(t)).astype(int)][:, None]
    options = {"times": grids.levels(sde, levels, N), "variance": Learned(of_level), "decoder": gaussian_decoder}
    total = jax.jit(lambda: variational_bound(KEYS, score, sde, x0, **options).total)()
    entropy, mean_T, variance_T = 0.5 * np.log(2 * np.pi * np.e * V), np.sqrt(bar) * M, bar * V + 1 - bar
    exact = 2 * (entropy + 0.5 * (variance_T + mean_T**2 - 1 - np.log(variance_T)))
    assert abs(total.mean() - exact) < 4 * total.std() / np.sqrt(COUNT)
    wrong = jax.jit(lambda: variational_bound(KEYS, linear_score(sde), sde, x0, **options).total)()
    assert wrong.mean() > exact + 0.05


def test_the_discretised_decoder_is_a_probability(float64):
    bins = np.linspace(-1, 1, 256)
    for centre, std in ((0.3, 0.05), (-0.999, 0.3), (1.7, 0.01), (-5.0, 0.5)):
        log = np.asarray(Discretized()(bins, jnp.asarray(centre), jnp.asarray(2 * np.log(std))))
        np.testing.assert_allclose(np.exp(log).sum(), 1, rtol=1e-9)
        edges = np.concatenate([[-np.inf], (bins[1:] + bins[:-1]) / 2, [np.inf]])
        exact = np.diff(norm.cdf(edges, centre, std))
        np.testing.assert_allclose(np.exp(log), exact, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize(("low", "high", "bins"), [(-1.0, 1.0, 256), (0.0, 1.0, 256), (-1.0, 1.0, 17)])
def test_the_discretised_decoder_has_finite_gradients_in_float32(low, high, bins):
    x0 = jnp.linspace(low, high, bins)
    decode = jax.jit(jax.value_and_grad(lambda m, v: Discretized(low, high, bins)(x0, m, v).sum(), (0, 1)))
    for centre, std in ((0.3, 0.01), (-4.0, 0.005), (3.0, 1.0)):
        value, slopes = decode(jnp.full(bins, centre), jnp.full(bins, 2 * np.log(std)))
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in slopes)


def test_bound_loss_is_unbiased(float64):
    """One random level per example, N times its term: the bound without L_T, in bits per dimension."""
    sde, levels = vp_chain(CHAINS["linear"]), vp_levels(N)
    x0 = data().sample(example_keys(root_key(5), positions(0, COUNT)))
    score, fraction = linear_score(sde), 0.3
    model = lambda x, t: (score(x, t), jnp.full_like(x, fraction))
    loss = jax.jit(lambda: BoundLoss(levels, gaussian_decoder)(KEYS, model, sde, x0))()
    _, steps, last = closed_form(CHAINS["linear"], "learned")
    assert abs(loss.mean() - (steps + last) / np.log(2)) < 4 * loss.std() / np.sqrt(COUNT)
    np.testing.assert_allclose(bits_per_dim(jnp.float64(2.0), x0), 1 / np.log(2))


def test_the_exact_score_and_variance_minimise_the_bound(float64):
    """Of N(M, V): Var(x_s | x_t) = small + coefficient^2 Var(x_0 | x_t); slopes in both vanish there."""
    sde, levels = vp_chain(CHAINS["linear"]), vp_levels(N)
    x0 = data().sample(example_keys(root_key(5), positions(0, 4000)))
    exact = jnp.asarray(exact_variance(CHAINS["linear"]))

    def loss(change):
        def model(x, t):
            i = levels(sde, t).astype(int)
            return (1 + change[0]) * linear_score(sde, 0.0, 1.0)(x, t), exact[i][:, None] + change[1] * jnp.ones_like(x)

        return BoundLoss(levels, gaussian_decoder)(KEYS[:4000], model, sde, x0)

    slopes, curvature = jax.jit(lambda c: (jax.jacfwd(loss)(c), jax.hessian(lambda c: loss(c).mean())(c)))(jnp.zeros(2))
    assert (np.abs(slopes.mean(0)) < 4 * slopes.std(0) / np.sqrt(4000)).all()
    assert (np.linalg.eigvalsh(curvature) > 0).all()


def test_the_hybrid_loss_trains_the_variance_by_the_bound_and_the_score_by_the_rest(float64):
    sde, levels = vp_chain(CHAINS["linear"]), vp_levels(N)
    keys = KEYS[:64]
    x0 = data().sample(keys)
    bound = BoundLoss(levels, gaussian_decoder)
    hybrid = HybridLoss(bound, simple, mean, weight=0.01)

    def model(change):
        return lambda x, t: ((1 + change[0]) * linear_score(sde)(x, t), (0.3 + change[1]) * jnp.ones_like(x))

    slope = lambda loss: jax.jit(jax.grad(lambda c: loss(keys, model(c), sde, x0).mean()))(jnp.zeros(2))
    both, without, of_bound = (slope(loss) for loss in (hybrid, HybridLoss(bound, simple, mean, weight=0.0), bound))
    np.testing.assert_allclose(both[0], without[0], rtol=1e-9)
    np.testing.assert_allclose(both[1], 0.01 * of_bound[1], rtol=1e-9)


def test_other_sdes_and_grids_have_a_bound_too(float64):
    """VE with the exact score: above the likelihood of Gaussian data by O(1 / steps), with the large variance."""
    sde, x0, score = VE(0.1, 20.0), data().sample(KEYS), data().score(VE(0.1, 20.0))
    likelihood = norm.logpdf(np.asarray(x0), M, np.sqrt(V)).sum(1)
    options = {"variance": Learned(lambda x, t: jnp.ones_like(x)), "decoder": gaussian_decoder}
    run = jax.jit(lambda times: variational_bound(KEYS, score, sde, x0, times=times, **options).total)
    gaps = [np.asarray(run(jnp.linspace(1, 0, steps + 1))) + likelihood for steps in (50, 200)]
    means, errors = np.mean(gaps, 1), np.std(gaps, 1) / np.sqrt(COUNT)
    assert (means > 4 * errors).all()
    np.testing.assert_allclose(means[0], 4 * means[1], atol=4 * (errors[0] + 4 * errors[1]) + 0.1 * means[0])
