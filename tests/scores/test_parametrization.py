"""Conversions between predictions: cycles for all pairs, definitions, and the official score wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.scores.parametrization import (
    Boundary,
    Denoiser,
    Difference,
    Noise,
    Parametrization,
    PosteriorMean,
    Preconditioned,
    Score,
    Velocity,
    log_sigma_label,
    root_sigma_label,
    sigma_label,
    time_label,
    ve_levels,
    vp_levels,
)
from score_sde.scores.posterior import posterior_mean
from score_sde.sde import SDE, VE, cosine, denoiser, karras, transition
from score_sde.sde.chain import cosine_betas, vp_chain
from score_sde.typing import expand
from tests.golden_files import agree, load, relative_error
from tests.oracles import CONTINUOUS, EVERY_SDE, FAKE, SDES, official_numerics

PREDICTIONS = [
    Noise(), Score(), Denoiser(), Velocity(), PosteriorMean(1000), Preconditioned(0.7), Difference(),
    Boundary(0.7, 1e-4),
]  # fmt: skip


@pytest.mark.parametrize("sde_name", EVERY_SDE)
def test_cycle(float64, sde_name):
    """score -> a -> score -> b -> score; a posterior mean loses the digits that b^2, its level's variance, costs."""
    sde = EVERY_SDE[sde_name]
    t = jnp.array([1e-2, 0.3, 1.0]) * sde.T
    rounding = np.finfo(float).eps / transition(sde, t - 1e-3 * sde.T, t)[1] ** 2
    x, score = jax.random.normal(jax.random.key(0), (2, 3, 4))
    around = lambda p, score: p.score(p.output(score, x, sde, t), x, sde, t)
    for a in PREDICTIONS:
        there = around(a, score)
        for b in PREDICTIONS:
            limits = np.maximum(1e-9, rounding) if PosteriorMean(1000) in (a, b) else np.full(3, 1e-9)
            for one, other, limit in zip(np.asarray(around(b, there)), np.asarray(score), limits):
                assert relative_error(one, other) < limit, (a, b)


@pytest.mark.parametrize("sde_name", EVERY_SDE)
def test_definitions_for_known_data_and_noise(float64, sde_name):
    """With x_0 and eps known, the score of N(alpha x_0, sigma^2) makes each output what its name says."""
    sde = EVERY_SDE[sde_name]
    t = jnp.array([0.01, 0.5, 0.9]) * sde.T
    x0, eps = jax.random.normal(jax.random.key(1), (2, 3, 4))
    alpha, sigma = expand(sde.alpha(t), x0), expand(sde.sigma(t), x0)
    x, score = alpha * x0 + sigma * eps, -eps / sigma
    velocity = (alpha * eps - sigma * x0) / jnp.sqrt(alpha**2 + sigma**2)
    before = posterior_mean(sde, x, x0, t - 1e-3 * sde.T, t)
    r, norm = sigma / alpha, jnp.sqrt((sigma / alpha) ** 2 + 0.7**2)
    target = (x0 - 0.7**2 / norm**2 * x / alpha) / (0.7 * r / norm)
    for prediction, meaning in zip(PREDICTIONS, (eps, score, x0, velocity, before, target, eps - x0)):
        assert relative_error(prediction.output(score, x, sde, t), meaning) < 1e-9
        assert relative_error(prediction.denoised(meaning, x, sde, t), x0) < 1e-9


@pytest.mark.parametrize("prediction", [Denoiser(), Velocity(), Difference()], ids=lambda p: type(p).__name__)
def test_denoisers_lose_no_digits_where_hardly_anything_is_left_of_the_data(prediction):
    """In float32 at alpha = 4.5e-5, where the way by the score leaves three digits."""
    sde, t = cosine(), jnp.ones(3)
    x0, eps = jax.random.normal(jax.random.key(1), (2, 3, 4))
    alpha, sigma = expand(sde.alpha(t), x0), expand(sde.sigma(t), x0)
    norm = jnp.sqrt(alpha**2 + sigma**2)
    output = {Denoiser: x0, Velocity: (alpha * eps - sigma * x0) / norm, Difference: eps - x0}[type(prediction)]
    x = alpha * x0 + sigma * eps
    assert relative_error(prediction.denoised(output, x, sde, t), x0) < 1e-6
    by_score = denoiser(sde, lambda x, t: prediction.score(output, x, sde, t))(x, t)
    assert relative_error(by_score, x0) > 1e-4


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_scores(sde_name):
    """The official get_score_fn(continuous=True), with its own 1 - exp in the standard deviation at t = 1e-5."""
    golden, (parametrization, network) = load("losses"), FAKE[sde_name]
    score = parametrization(network, official_numerics(sde_name))
    agree(score(golden[f"{sde_name}/perturbed"], golden["t"]), "losses", f"{sde_name}/score", "losses")


def test_a_scalar_time_serves_the_whole_batch():
    parametrization, network = FAKE["vp"]
    score = parametrization(network, SDES["vp"])
    x = jax.random.normal(jax.random.key(2), (3, 2))
    np.testing.assert_array_equal(score(x, jnp.float32(0.4)), score(x, jnp.full(3, 0.4)))


@pytest.mark.parametrize("sde_name", SDES)
def test_golden_perturbations(sde_name):
    golden = load("losses")
    mean, std = official_numerics(sde_name).marginal(golden["x"], golden["t"])
    agree(mean + expand(std, mean) * golden["z"], "losses", f"{sde_name}/perturbed", "losses")


def test_labels_are_the_published_ones():
    t = jnp.array([1e-3, 0.5, 1.0])
    np.testing.assert_allclose(time_label(SDES["vp"], t), [0.999, 499.5, 999], rtol=1e-6)
    np.testing.assert_allclose(sigma_label(SDES["ve"], t), 0.01 * 5000 ** np.asarray(t, np.float64), rtol=1e-5)


@pytest.mark.parametrize("num_scales", [10, 232, 500, 1000, 1086, 2000])
@pytest.mark.parametrize("levels", [vp_levels, ve_levels])
def test_levels_are_exact_on_their_times_in_float32(levels, num_scales):
    law, sde, labels = levels(num_scales), SDES["vp"], np.arange(num_scales)
    t = law.time(sde, jnp.asarray(labels, jnp.float32))
    np.testing.assert_array_equal(law(sde, t), labels)
    between = law.time(sde, jnp.float32(2.5))
    np.testing.assert_allclose(law(sde, between), 2.5, rtol=1e-3)


def test_levels_are_the_published_ones():
    """DDPM's least noise is level 0, at t = 1 / N; SMLD's most noise is level 0, and its last sigma sigma_min."""
    sde = SDES["ve"]
    np.testing.assert_allclose(vp_levels(4).time(sde, np.arange(4)), [0.25, 0.5, 0.75, 1.0])
    sigmas = sde.sigma(ve_levels(1000).time(sde, jnp.arange(1000.0)))
    assert relative_error(sigmas, load("sde")["ve/discrete_sigmas"][::-1]) < 1e-5


def test_a_learned_variance_is_the_second_half_of_the_channels():
    network = lambda x, c, s: jnp.concatenate([2 * x, x], axis=-1)
    x, sde = jnp.linspace(-1, 1, 12).reshape(2, 2, 3), SDES["vp"]
    score, fraction = Parametrization(Noise(), time_label).with_variance(network, sde)(x, jnp.float32(0.5))
    np.testing.assert_allclose(score, -2 * x / sde.sigma(0.5), rtol=1e-6)
    np.testing.assert_allclose(fraction, (x + 1) / 2, rtol=1e-6)


def coefficients(parametrization: Parametrization, sde: SDE, r, scale_by_sigma: bool = False) -> dict:
    """c_skip, c_out, c_in and label of D(y; r) = c_skip y + c_out F(c_in y), by asking for D with F held at 0 and 1."""
    t, seen = sde.time(-2 * jnp.log(r)), {}

    def d(y: float, f: float):
        def network(x, label, sigma):
            seen.update({"in": x[:, 0], "noise": label})
            return f * jnp.ones_like(x) / (expand(sigma, x) if scale_by_sigma else 1)

        return denoiser(sde, parametrization(network, sde))(expand(sde.alpha(t), r[:, None]) * y, t)[:, 0]

    return {"out": d(0.0, 1.0), "skip": d(1.0, 0.0), **seen}


CHAIN = vp_chain(cosine_betas(1000))
PUBLISHED = {  # EDM's names of Song et al.'s and of Nichol & Dhariwal's networks
    "vp": (Parametrization(Noise(), time_label), SDES["vp"], False),
    "ve": (Parametrization(Score(), sigma_label), VE(0.02, 100.0), True),
    "iddpm": (Parametrization(Noise(), vp_levels(1000)), CHAIN, False),
    "edm": (Parametrization(Preconditioned(0.5), log_sigma_label), karras(), False),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_golden_preconditioning(float64, name):
    """Song et al.'s networks are preconditioned as EDM says, without being told.

    VE: EDM's noise levels are those of images in [-1, 1], twice Song et al.'s, and its label is their logarithm.
    """
    recorded = lambda key, ours, *rows: agree(
        ours, "edm_precond_loss", f"{name}__{key}", "EDM", *rows, folder="solvers"
    )
    r = jnp.asarray(load("edm_precond_loss", "solvers")["sigma"])
    ours = coefficients(*PUBLISHED[name][:2], r, PUBLISHED[name][2])
    for key in ("skip", "out", "in"):
        recorded(f"c_{key}", ours[key])
    if name == "iddpm":  # its label is the nearest level's; below the least of them, none
        rounded = jnp.asarray(load("edm_precond_loss", "solvers")["iddpm__round_sigma"][1:])
        label = coefficients(*PUBLISHED[name][:2], rounded)["noise"]
        recorded("c_noise", jnp.concatenate([-jnp.ones(1), label]), np.s_[1:], "levels")
    else:
        recorded("c_noise", jnp.log(ours["noise"] / 2) if name == "ve" else ours["noise"])


def test_golden_tables_of_iddpm(float64):
    """u_j is sigma / alpha of the cosine chain's level 999 - j."""
    levels = 999 - jnp.arange(0, 1000, 20)
    r = jnp.exp(-0.5 * CHAIN.log_snr(vp_levels(1000).time(CHAIN, levels.astype(float))))
    ours = jnp.concatenate([r, jnp.zeros(1)])
    agree(ours, "edm_precond_loss", "iddpm__u_every_20", "EDM", folder="solvers")


@pytest.mark.parametrize("sde_name", CONTINUOUS)
def test_preconditioning_gives_input_and_target_unit_variance(float64, sde_name):
    """For data of standard deviation sigma_data: all is linear in x_0 and eps, whose variances add up."""
    sde, s = CONTINUOUS[sde_name], 0.7
    t = jnp.array([0.01, 0.5, 1.0]) * sde.T
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    shown = lambda x0, eps: Preconditioned(s).shown(alpha * x0 + sigma * eps, sde, t)
    target = lambda x0, eps: Preconditioned(s).output(-eps / sigma, alpha * x0 + sigma * eps, sde, t)
    for f in (shown, target):
        np.testing.assert_allclose(f(s, 0.0) ** 2 + f(0.0, 1.0) ** 2, 1, rtol=1e-9)


def test_edms_labels_are_one_behind_a_fourier_embedding(float64):
    """Both say ln(sigma / alpha) / 4, one of them by its exponential."""
    for sde in CONTINUOUS.values():
        t = jnp.array([0.01, 0.5, 1.0]) * sde.T
        np.testing.assert_allclose(log_sigma_label(sde, t), jnp.log(sde.sigma(t) / sde.alpha(t)) / 4, rtol=1e-9)
        np.testing.assert_allclose(root_sigma_label(sde, t), (sde.sigma(t) / sde.alpha(t)) ** 0.25, rtol=1e-9)
