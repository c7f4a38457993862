"""Networks shown a picture: against the recorded arithmetic of SR3 and Palette, and the exact optimum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.guidance.limits import static, thresholded
from score_sde.networks import NCSNpp
from score_sde.networks.concatenating import Concatenating, resized
from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.scores.noisy_condition import NoisyCondition
from score_sde.scores.parametrization import Denoiser, Noise, Parametrization, alpha_label, square_alpha_label
from score_sde.scores.posterior import log_variances, posterior_mean
from score_sde.sde import vp
from score_sde.sde.analytic import gaussian
from score_sde.sde.chain import vp_chain
from score_sde.sde.conditioning import condition, condition_noised
from score_sde.solvers import Ancestral
from tests.golden_files import load, relative_error
from tests.networks.drawing import drawn_params

G = load("concat", "conditioning")
CHAIN = vp_chain(G["sr3/betas"])
"""Of both; its coefficients are float32 where they were recorded, hence the tolerances."""
LOOSE = 1e-6


def keys(number: int, seed: int = 0):
    return example_keys(root_key(seed), positions(0, number))


def pictures(key: str):
    """Recorded as [..., C, H, W]; here the channels are last."""
    return jnp.moveaxis(jnp.asarray(G[key]), -3, -1)


class Fake(nn.Module):
    """0.5 tanh(x) + 0.3 c level, c in the first half of the channels."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None):
        c, x = jnp.split(x, 2, axis=-1)
        return 0.5 * jnp.tanh(x) + 0.3 * c * label[:, None, None, None]


def bound(c):
    network = Concatenating(Fake(), first=True)
    return lambda x, label, sigma: network.apply({}, x, label, sigma, condition={"image": c})


def test_the_posteriors_tables(float64):
    """From every level to the one below: of x_0, of x_t, and the logarithm of the small variance."""
    bars = G["sr3/alphas_cumprod"]
    assert relative_error(np.cumprod(1 - G["sr3/betas"]), bars) < LOOSE
    np.testing.assert_array_equal(G["palette/gammas"], bars)
    t, s = (jnp.arange(20) + 1) / 20, jnp.arange(20) / 20
    assert relative_error(CHAIN.alpha(t) ** 2, bars) < LOOSE
    assert relative_error(1 / CHAIN.alpha(t), G["sr3/sqrt_recip_alphas_cumprod"]) < LOOSE
    assert relative_error(CHAIN.sigma(t) / CHAIN.alpha(t), G["sr3/sqrt_recipm1_alphas_cumprod"]) < 1e-5
    one, zero = jnp.ones((20, 1)), jnp.zeros((20, 1))
    of = lambda x, x0: posterior_mean(CHAIN, x, x0, s, t)[:, 0]
    assert relative_error(of(zero, one), G["sr3/posterior_mean_coef1"]) < LOOSE
    assert relative_error(of(one, zero), G["sr3/posterior_mean_coef2"]) < LOOSE
    small = log_variances(CHAIN, s, t)[0]
    assert relative_error(jnp.maximum(small, jnp.log(1e-20)), G["sr3/posterior_log_variance_clipped"]) < LOOSE


def at_level(signal):
    """The time of the chain at which alpha is the signal [B]."""
    return CHAIN.time(2 * jnp.log(signal) - jnp.log1p(-(signal**2)))


def test_sr3s_loss_between_levels(float64):
    """One level of the chain for the batch, its root of alpha-bar between that one's and the one's below it."""
    levels, number, noise, hr = jnp.asarray(G["sr3/levels"]), int(G["sr3/t"]), pictures("noise"), pictures("hr")
    t = at_level(levels)
    assert np.all((np.asarray(t) >= (number - 1) / 20) & (np.asarray(t) <= number / 20))
    assert relative_error(CHAIN.alpha(t), levels) < 1e-12
    mean, std = CHAIN.marginal(hr, t)
    x = mean + std[:, None, None, None] * noise
    score = Parametrization(Noise(), alpha_label)(bound(pictures("sr")), CHAIN)
    predicted = -std[:, None, None, None] * score(x, t)
    assert relative_error(jnp.abs(noise - predicted).sum(), G["sr3/loss_l1_sum"]) < LOOSE


@pytest.mark.parametrize("masked", [False, True])
def test_palettes_loss_between_levels(float64, masked):
    """A level for every example; under a mask the network is shown what is known without noise."""
    bars, number = np.concatenate([[1.0], np.cumprod(1 - G["sr3/betas"])]), G["palette/t"]
    signal = bars[number] + (bars[number + 1] - bars[number]) * G["palette/u"][:, 0]
    t, noise, hr = at_level(jnp.sqrt(jnp.asarray(signal))), pictures("noise"), pictures("hr")
    mean, std = CHAIN.marginal(hr, t)
    x = mean + std[:, None, None, None] * noise
    mask = jnp.broadcast_to(pictures("palette/mask"), x.shape) if masked else jnp.ones_like(x)
    x = jnp.where(mask != 0, x, hr)
    score = Parametrization(Noise(), square_alpha_label)(bound(pictures("sr")), CHAIN)
    predicted = -std[:, None, None, None] * score(x, t)
    loss = jnp.mean((mask * (noise - predicted)) ** 2)
    assert relative_error(loss, G["palette/loss_mask" if masked else "palette/loss_nomask"]) < LOOSE


RUNS = {"sr3/sample": (alpha_label, "hr"), "palette/restoration_mask": (square_alpha_label, "palette/yT")}


@pytest.mark.parametrize("run", RUNS)
def test_whole_samplings(float64, run):
    """The denoiser clipped, the small variance; of Palette what is known is put in clean after every step."""
    label, start = RUNS[run]
    noise, hr, sr = pictures(run.replace("_mask", "") + "_noise"), pictures("hr"), pictures("sr")
    mask = jnp.broadcast_to(pictures("palette/mask"), hr.shape) if "palette" in run else jnp.ones_like(hr)
    score = thresholded(Parametrization(Noise(), label)(bound(sr), CHAIN), CHAIN, static)
    update = jax.jit(lambda x, t, s, z: Ancestral().update(CHAIN, score, x, t, s, z).x)
    draws = iter(noise)
    x = next(draws) if "sr3" in run else pictures(start)
    for i in range(19, -1, -1):
        z = next(draws) if i else jnp.zeros_like(x)
        x = update(x, jnp.asarray((i + 1) / 20), jnp.asarray(i / 20), z)
        x = jnp.where(mask != 0, x, hr)
    assert next(draws, None) is None
    assert relative_error(x, pictures(run)) < LOOSE


class Affine(nn.Module):
    """One affine map of all its numbers to those of the first channel."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None):
        out = nn.Dense(x[0].size // x.shape[-1])(x.reshape(len(x), -1))
        return out.reshape(*x.shape[:-1], 1)


SHAPE, T, LEVEL = (4, 1, 1), 0.35, 0.2
A = np.kron(np.eye(2), np.full((1, 2), 0.5))
"""Means of pairs of four pixels, shown to the network as [2, 1, 1], noised to the level."""


def field():
    return gaussian(
        jnp.arange(4.0).reshape(SHAPE) / 4, jnp.asarray(0.9 ** np.abs(np.subtract.outer(range(4), range(4))))
    )


def test_least_squares_find_the_exact_posterior(float64):
    """Of x_0 on what the wrapper shows, noised by NoisyCondition: an affine network's optimum on Gaussian data."""
    sde, data, number = vp(), field(), 20_000
    x0 = jnp.asarray(data.sample(keys(number, 1)), float)
    low = (x0.reshape(number, 4) @ A.T).reshape(number, 2, 1, 1)
    noisy = NoisyCondition(sde, 0.1, 0.3)
    told = noisy.at(keys(number, 2), {"image": low}, LEVEL)
    x = sde.alpha(jnp.asarray(T)) * x0 + sde.sigma(jnp.asarray(T)) * normal(keys(number, 3), SHAPE, x0.dtype)
    shown = jnp.concatenate([x, resized(told["image"], x.shape, "nearest")], -1).reshape(number, -1)
    rows = np.concatenate([np.asarray(shown), np.ones((number, 1))], 1)
    solved = np.linalg.lstsq(rows, np.asarray(x0).reshape(number, -1), rcond=None)[0]
    # Every number of the picture is shown twice: the solution of least norm is one of many, and as good.
    network = Concatenating(Affine(), method="nearest")
    params = {"params": {"network": {"Dense_0": {"kernel": jnp.asarray(solved[:-1]), "bias": jnp.asarray(solved[-1])}}}}
    c, at = told["image"][:3], x[:3]
    call = lambda x, label, sigma: network.apply(params, x, label, sigma, None, {"image": c})
    score = Parametrization(Denoiser(), alpha_label)(call, sde)(at, jnp.asarray(T))
    t, a = jnp.asarray(T), jnp.asarray(LEVEL)
    posterior = lambda k: condition_noised(data, jnp.asarray(A), c[k].ravel(), sde, a).score(sde)
    exact = jnp.stack([posterior(k)(at[k : k + 1], t)[0] for k in range(3)])
    assert relative_error(score, exact) < 0.03
    assert relative_error(data.score(sde)(at, t), exact) > 0.1


def test_the_noised_conditions_posterior_averages_to_the_data(float64):
    """Over what the first stage draws, E and Cov of the second's are those of the data: a cascade of exact stages."""
    sde, data, t = vp(), field(), jnp.asarray(LEVEL)
    mean, covariance = data.mixture().moments()
    alpha, sigma, zero = sde.alpha(t), sde.sigma(t), jnp.zeros(2)
    at = lambda c: condition_noised(data, jnp.asarray(A), c, sde, t).moments()
    slope = jax.jacfwd(lambda c: at(c)[0].ravel())(zero)
    of_c = alpha**2 * A @ covariance @ A.T + sigma**2 * jnp.eye(2)
    np.testing.assert_allclose(at(alpha * A @ mean.ravel())[0], mean, atol=1e-12)
    np.testing.assert_allclose(at(zero)[1] + slope @ of_c @ slope.T, covariance, atol=1e-12)
    # And at a level of little noise it is the posterior of the picture itself.
    little = condition_noised(data, jnp.asarray(A), jnp.array([0.3, 0.6]), sde, jnp.asarray(1e-9)).moments()
    clean = condition(data, jnp.asarray(A), jnp.array([0.3, 0.6]), 0.0).moments()
    for found, expected in zip(little, clean, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_levels_are_of_every_examples_own_key():
    noisy, image = NoisyCondition(vp(), 0.1, 0.6), jnp.ones((64, 2, 2, 1))
    given = {"image": image, "label": jnp.arange(64)}
    told = noisy.train(keys(64), given)
    np.testing.assert_array_equal(noisy.train(keys(64)[::-1], given)["image"][::-1], told["image"])
    np.testing.assert_array_equal(told["label"], given["label"])
    assert 0.1 <= told["level"].min() < 0.2
    assert 0.5 < told["level"].max() < 0.6
    fixed = noisy.at(keys(64), given, 0.3)
    np.testing.assert_allclose(fixed["level"], 0.3)
    deviation = (fixed["image"] - vp().alpha(jnp.float32(0.3))) / vp().sigma(jnp.float32(0.3))
    assert abs(float(deviation.mean())) < 0.2
    assert float(deviation.std()) == pytest.approx(1, abs=0.2)
    with pytest.raises(UsageError, match="trained were"):
        noisy.at(keys(64), given, 0.7)


def test_a_u_net_is_shown_a_smaller_picture_and_its_level():
    inner = NCSNpp(nf=8, ch_mult=(1,), num_res_blocks=1, attn_resolutions=(), out_channels=1, augment_dim=4)
    network = Concatenating(inner, told=4)
    x, given = jnp.ones((2, 8, 8, 1)), {"image": jnp.ones((2, 4, 4, 3)), "level": jnp.array([0.1, 0.9])}
    params = drawn_params(network, x, jnp.ones(2), jnp.ones(2), None, given)
    assert params["params"]["network"]["Conv_0"]["kernel"].shape[2] == 4
    call = jax.jit(lambda given: network.apply(params, x, jnp.ones(2), jnp.ones(2), None, given))
    plain = call(given)
    assert plain.shape == x.shape
    for changed in ({"level": jnp.array([0.1, 0.5])}, {"image": given["image"].at[1].set(0.5)}):
        other = call(given | changed)
        np.testing.assert_array_equal(other[0], plain[0])
        assert float(jnp.abs(other[1] - plain[1]).max()) > 0.001
    np.testing.assert_allclose(resized(given["image"], (2, 8, 8, 1), "bicubic"), 1, rtol=1e-6)
    for wrong, message in (
        ({}, "needs an image"),
        ({"image": given["image"]}, "a level"),
        (given | {"image": jnp.ones((3, 4, 4, 1))}, "beside examples"),
        (given | {"image": jnp.ones((2, 4, 4))}, "beside examples"),
    ):
        with pytest.raises(ValueError, match=message):
            network.apply(params, x, jnp.ones(2), jnp.ones(2), None, wrong)
    with pytest.raises(ValueError, match="method"):
        Concatenating(inner, method="area")


def test_the_order_of_channels_and_the_ways_to_resize():
    x, c = jnp.zeros((1, 4, 4, 1)), jnp.arange(4.0).reshape(1, 2, 2, 1)

    class Shown(nn.Module):
        @nn.compact
        def __call__(self, x, label, sigma=None, dropout_keys=None):
            return x

    for first, place in ((False, 1), (True, 0)):
        shown = Concatenating(Shown(), first, "bilinear").apply({}, x, x, x, None, {"image": c})
        np.testing.assert_array_equal(shown[..., 1 - place], x[..., 0])
        np.testing.assert_allclose(shown[0, :, 0, place], [0, 0.5, 1.5, 2])  # half-pixel centres
    np.testing.assert_array_equal(resized(c, x.shape, "nearest")[0, 0, :, 0], [0, 0, 1, 1])
