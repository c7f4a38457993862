"""Consistency models' losses, levels, curricula and samples: published numbers, and Gaussians in closed form."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.objectives import denoising
from score_sde.objectives.consistency import (
    PseudoHuber,
    l1,
    l2,
    limit_loss,
    normalised_loss,
    pair_loss,
    trigonometric_tangent,
)
from score_sde.objectives.levels import LogNormalNeighbours, Neighbours, Share, noise_level, time_of
from score_sde.scores.parametrization import Boundary, Parametrization, Preconditioned
from score_sde.sde import karras
from score_sde.solvers.few_step import euler_step, heun_step, renoised_from
from score_sde.training.curriculum import Doubling, Root, Unchanged
from score_sde.training.ema import Scheduled, Seen
from score_sde.typing import expand
from tests.golden_files import load
from tests.oracles import CONTINUOUS, INTERPOLANTS

SDE = karras()
WEIGHTINGS = {"uniform": denoising.denoiser, "karras": denoising.EDM(0.5), "truncated_snr": denoising.truncated_snr}
AGREE = partial(np.testing.assert_allclose, rtol=1e-12)
TOYS = {"net": (0.8, 0.3), "target": (0.75, 0.28), "teacher": (0.9, -0.2)}
M, V, E = 0.3, 0.16, 0.002


def golden():
    return load("consistency", "systems")


def recorded(name: str, prediction=None):
    """The goldens' toy networks as denoisers; the teacher is EDM's."""
    a, b = TOYS[name]
    network = lambda y, label, sigma: jnp.tanh(a * y + b * label[:, None, None, None] / 1000)
    prediction = prediction or (Preconditioned(0.5) if name == "teacher" else Boundary(0.5, E))
    return Parametrization(prediction, lambda sde, t: 250 * jnp.log(t)).denoiser(network, SDE)


# Published numbers


def test_golden_scalings(float64):
    g = golden()
    t = jnp.asarray(g["scalings__sigma"])
    x, zero = jnp.ones((8, 1)), jnp.zeros((8, 1))
    for prediction, name in ((Preconditioned(0.5), "edm"), (Boundary(0.5, E), "cm")):
        skip = prediction.denoised(zero, x, SDE, t)[:, 0]
        AGREE(skip, g[f"scalings__{name}_c_skip"])
        AGREE(prediction.denoised(x, zero, SDE, t)[:, 0], g[f"scalings__{name}_c_out"], atol=1e-18)
        AGREE(prediction.shown(x, SDE, t)[:, 0], g[f"scalings__{name}_c_in"])
    AGREE(Boundary(0.5, E).denoised(zero, x, SDE, t)[:, 0], g["ict__skip"])
    AGREE(Boundary(0.5, E).denoised(x, zero, SDE, t)[:, 0], g["ict__out"], atol=1e-18)
    names = {"snr": denoising.simple, "snr_plus_1": denoising.velocity, **WEIGHTINGS}
    for name, weighting in names.items():
        AGREE(weighting(SDE, t) * jnp.exp(SDE.log_snr(t)), g[f"scalings__weight_{name}"])


def test_golden_levels(float64):
    g = golden()
    for count in (18, 40):
        n = jnp.arange(count - 1, -1, -1.0)
        AGREE(Neighbours(E).time(SDE, n, jnp.float64(count - 1)), g[f"karras_sigmas_{count}"][:-1])
    AGREE(Neighbours(E).time(SDE, jnp.arange(11.0), jnp.float64(10)), g["ict__sigmas_11"])


def test_golden_law_of_log_normal_levels(float64):
    """Improved consistency training's, of 11 levels: the share of quantiles that fall on each pair."""
    g, count = golden(), 200_000
    t, s = LogNormalNeighbours(E)(SDE, (jnp.arange(float(count)) + 0.5) / count, jnp.float64(10))
    levels = g["ict__sigmas_11"]
    n = np.searchsorted(levels, np.asarray(s) * 1.0001) - 1
    AGREE(t, levels[n + 1])
    np.testing.assert_allclose(np.bincount(n, minlength=10) / count, g["ict__pdf_11"], atol=1.1 / count)
    gap = jnp.asarray(levels[1:] - levels[:-1])
    AGREE(1 / gap, g["ict__weight_11"])


@pytest.mark.parametrize("stage", [0, 1, 3, 7])
@pytest.mark.parametrize("q", [2, 4, 256])
@pytest.mark.parametrize(("name", "expansion"), [("const", 0.0), ("sigmoid", 8.0)])
def test_golden_shares(float64, q, stage, name, expansion):
    g = golden()
    t = jnp.asarray(g["ect__t"])
    given = lambda sde, u: (t, jnp.ones_like(t))
    found, s = Share(given, 1e-18, expansion)(SDE, t, jnp.float64(q ** (stage + 1)))  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(found, t)
    AGREE(s, g[f"ect_q{q}_{name}_stage{stage}__r"], atol=1e-15)


def test_golden_curricula_and_rates(float64):
    g = golden()
    for name, first, last, updates in (("ct", 0.95, 200, 800_000), ("ct_small", 0.9, 20, 1000)):
        k = jnp.asarray(g[f"curriculum_{name}__step"])
        curriculum = Root(2, last, updates)
        AGREE(curriculum(k) + 1, g[f"curriculum_{name}__scales"])
        mu = 1 - Scheduled(first, 2, curriculum).weight(Seen(k, k.astype(float), 1.0))
        AGREE(mu, g[f"curriculum_{name}__target_ema"])
    AGREE(Unchanged(39)(jnp.asarray(g["curriculum_cd__step"])) + 1, g["curriculum_cd__scales"])
    for name, last, updates in (("ict", 1280, 400_000), ("ict_small", 160, 1000)):
        AGREE(Doubling(10, last, updates)(jnp.asarray(g[f"{name}__step"])) + 1, g[f"{name}__num_timesteps"])


@pytest.mark.parametrize("count", [2, 18, 40])
def test_golden_losses(float64, count):
    g = golden()
    x0, z, index = (jnp.asarray(g[name]) for name in ("loss__x", "loss__z", f"loss_n{count}__index"))
    steps, index = jnp.float64(count - 1), index.astype(float)
    t, s = (Neighbours(E).time(SDE, steps - index - ahead, steps) for ahead in (0, 1))
    AGREE(t, g[f"loss_n{count}__t"])
    AGREE(s, g[f"loss_n{count}__t_next"])
    x = x0 + expand(t, x0) * z
    befores = {
        "ct": euler_step(SDE, lambda x, t: x0, x, t, s),
        "cd": heun_step(SDE, recorded("teacher"), x, t, s),
    }
    for pair, before in befores.items():
        for word, metric in (("l1", l1), ("l2", l2)):
            for name, weighting in WEIGHTINGS.items():
                options = {"metric": metric, "weighting": weighting}
                loss = pair_loss(recorded("net"), recorded("target"), SDE, x, t, before, s, **options)
                np.testing.assert_allclose(loss, g[f"loss_n{count}__{pair}_{word}_{name}"], rtol=1e-9)


def test_golden_function_and_samples(float64):
    g = golden()
    free = recorded("net")
    AGREE(free(jnp.asarray(g["f__x"]), jnp.asarray(g["f__t"])), g["f__value"])
    clipping = lambda x, t: jnp.clip(free(x, t), -1, 1)
    cases = itertools.product(enumerate((free, clipping)), (("onestep", 1), ("two", 2), ("three", 3)))
    for (clipped, f), (name, count) in cases:
        noise = jnp.asarray(g[f"sample_{name}__noise"])
        indices = g[f"sample_{name}__indices"][:-1] if count > 1 else np.zeros(1)
        times = Neighbours(E).time(SDE, 39.0 - jnp.asarray(indices, float), jnp.float64(39))
        x = renoised_from(80 * noise[0], lambda i, noise=noise: noise[i + 1], f, SDE, times=times, t_min=E)
        last = (80 ** (1 / 7) + 39 / 39 * (E ** (1 / 7) - 80 ** (1 / 7))) ** 7  # whose rounding theirs has as noise
        x = x + (noise[-1] * np.sqrt(max(last**2 - E**2, 0)) if count > 1 else 0)
        AGREE(jnp.clip(x, -1, 1), g[f"sample_{name}__x_clip{clipped}"], atol=1e-12)


@pytest.mark.parametrize("c", [0.0, 0.06])
def test_golden_easy_consistency_tuning(float64, c):
    """Its loss is the norm, or the pseudo-Huber distance, over the gap."""
    g = golden()
    x0, eps = jnp.asarray(g["loss__x"]), jnp.asarray(g["ect_loss__eps"])
    t = jnp.exp(-1.1 + 2.0 * jnp.asarray(g["ect_loss__normal_of_t"]).ravel())
    given = lambda sde, u: (t, jnp.ones_like(t))
    _, s = Share(given, 1e-18, 8.0)(SDE, t, jnp.float64(8))  # pyright: ignore[reportArgumentType]
    f, x = recorded("net", Preconditioned(0.5)), x0 + expand(t, x0) * eps
    options = {"metric": PseudoHuber(c / 12**0.5), "weighting": denoising.denoiser, "over_gap": True}
    before = x0 + expand(s, x0) * eps
    loss = pair_loss(f, f, SDE, x, t, before, s, **options)
    np.testing.assert_allclose(loss, g[f"ect_loss__c{c}"], rtol=1e-9)


@pytest.mark.parametrize("pair", ["cd", "ct"])
def test_golden_continuous_loss_and_gradient(float64, pair):
    """Theirs is without the factor 2 / D."""
    g = load("consistency_continuous", "systems")
    x0, t, z = (jnp.asarray(g[name]) for name in ("x", "t", "z"))
    x = x0 + expand(t, x0) * z
    taught = x0 if pair == "ct" else x - expand(t**2 / (0.25 + t**2), x) * (x - 0.1)

    def loss(params):
        network = lambda y, label, sigma: jnp.tanh(params["a"] * y + params["b"] * expand(label, y) + params["c"])
        f = Parametrization(Boundary(0.5, E), lambda sde, t: jnp.log(t) / 4).denoiser(network, SDE)
        return 6 * jnp.mean(limit_loss(f, SDE, x, t, taught, weighting=denoising.denoiser))

    value, gradient = jax.jit(jax.value_and_grad(loss))({name: jnp.asarray(g[f"params/{name}"]) for name in "abc"})
    np.testing.assert_allclose(value, g[f"l2_stop_{pair}__loss"], rtol=1e-9)
    for name, found in gradient.items():
        np.testing.assert_allclose(found, g[f"l2_stop_{pair}__grad/{name}"], rtol=1e-8)


# A Gaussian N(M, V I)


def exact_denoiser(sde):
    """E[x_0 | x_t = x]."""

    def denoise(x, t):
        r, alpha = expand(noise_level(sde, jnp.broadcast_to(t, x.shape[:1])), x), expand(sde.alpha(t), x)
        return M + V / (V + r**2) * (x / alpha - M)

    return denoise


def exact_function(sde, t_min):
    """Where the flow's trajectory through x at t is at t_min or, for 0, at its end; over alpha there."""

    def f(x, t):
        r, alpha = expand(noise_level(sde, jnp.broadcast_to(t, x.shape[:1])), x), expand(sde.alpha(t), x)
        least = noise_level(sde, jnp.asarray(t_min, x.dtype)) if t_min else 0.0
        return M + jnp.sqrt((V + least**2) / (V + r**2)) * (x / alpha - M)

    return f


def points(sde):
    """Some x and t, the least time among them a small one."""
    t = jnp.array([1e-2, 0.1, 0.4, 0.9]) * sde.T
    x0, z = jax.random.normal(jax.random.key(0), (2, 4, 3))
    return expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), x0) * z, t


@pytest.mark.parametrize("name", CONTINUOUS | INTERPOLANTS)
def test_the_exact_function_has_no_tangent(float64, name):
    sde = (CONTINUOUS | INTERPOLANTS)[name]
    (x, t), f, s = points(sde), exact_function(sde, 1e-3), 0.7
    x0 = exact_denoiser(sde)(x, t)
    loss = limit_loss(f, sde, x, t, x0, weighting=denoising.denoiser)
    np.testing.assert_allclose(loss / jnp.mean(f(x, t) ** 2, 1), 0, atol=1e-8)

    def network(inner, t):
        """F of f = cos w + s sin F(w / s)."""
        r = noise_level(sde, t)
        cos, sin = (expand(a / jnp.hypot(r, s), inner) for a in (s, r))
        w = s * inner
        y = expand(sde.alpha(t), w) * w / cos
        return (exact_function(sde, 0)(y, t) - cos * w) / (s * sin)

    output, tangent = trigonometric_tangent(network, sde, x, t, x0, sigma_data=s)
    np.testing.assert_allclose(tangent, 0, atol=1e-9)
    np.testing.assert_allclose(normalised_loss(output, tangent), 0, atol=1e-15)


@pytest.mark.parametrize("name", ["vp", "edm", "straight"])
def test_the_trigonometric_tangent_is_the_denoisers_own(float64, name):
    """cos th df/dth of EDM's denoiser, differentiated as a whole along a straight trajectory."""
    sde, s = (CONTINUOUS | INTERPOLANTS)[name], 0.7
    x0, z = jax.random.normal(jax.random.key(1), (2, 4, 3))
    t = jnp.array([1e-2, 0.1, 0.4, 0.9]) * sde.T
    inner = lambda y, label, sigma: jnp.tanh(0.8 * y + expand(label, y))
    parts = Parametrization(Preconditioned(s), lambda sde, t: -sde.log_snr(t) / 8)
    f = parts.denoiser(inner, sde)
    on = lambda t: expand(sde.alpha(t), x0) * x0 + expand(sde.sigma(t), x0) * z
    _, slope = jax.jvp(lambda t: f(on(t), t), (t,), (jnp.ones_like(t),))
    r = noise_level(sde, t)
    cos, sin = s / jnp.hypot(r, s), r / jnp.hypot(r, s)
    per_angle = 2 * (sde.sigma(t) / sde.diffusion(t)) ** 2 / (cos * sin)
    network = lambda y, t: inner(y, parts.label(sde, t), sde.sigma(t))
    _, tangent = trigonometric_tangent(network, sde, on(t), t, x0, sigma_data=s)
    np.testing.assert_allclose(tangent, expand(cos * per_angle, x0) * slope, rtol=1e-9)


def test_the_limit_is_of_near_pairs(float64):
    """The squared error's gradient over t - s, to first order in it."""
    x0, z = jax.random.normal(jax.random.key(2), (2, 4, 3))
    t = jnp.array([0.01, 0.3, 2.0, 40.0])
    x = x0 + expand(t, x0) * z
    f = lambda a: Parametrization(Boundary(0.5, E), lambda sde, t: jnp.log(t) / 4).denoiser(
        lambda y, label, sigma: jnp.tanh(a * y + expand(label, y)), SDE
    )
    weighting = denoising.EDM(0.5)
    limit = jax.jit(jax.grad(lambda a: limit_loss(f(a), SDE, x, t, x0, weighting=weighting).sum()))(0.8)

    @jax.jit
    def near(share):
        s = t * (1 - share)
        before = x0 + expand(s, x0) * z
        loss = lambda a: pair_loss(f(a), f(a), SDE, x, t, before, s, metric=l2, weighting=weighting) / (t - s)
        return jax.grad(lambda a: loss(a).sum())(0.8) - limit

    assert float(near(1e-4) / near(1e-5)) == pytest.approx(10, rel=0.01)
    assert abs(near(1e-5)) < 1e-3 * abs(limit)


@pytest.mark.parametrize("name", ["vp", "edm", "straight"])
def test_steps_are_the_flows_to_their_order(float64, name):
    """Heun's error falls as the step's third power, Euler's as its second."""
    sde = (CONTINUOUS | INTERPOLANTS)[name]
    t, x = jnp.array([0.6]) * sde.T, jnp.array([[0.7, -1.3]]) * sde.sigma(0.6 * sde.T)
    r = noise_level(sde, t)

    def error(step, share):
        s = time_of(sde, r * (1 - share))
        where = exact_function(sde, 0)
        end = step(sde, exact_denoiser(sde), x, t, s)
        return float(jnp.abs(where(end, s) - where(x, t)).max())

    for step, order in ((euler_step, 2), (heun_step, 3)):
        assert np.log2(error(step, 0.02) / error(step, 0.01)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("count", [2, 3, 10, 18, 150, 1280])
def test_the_gain_of_distillation_is_the_recorded_one(float64, count):
    """Euler's steps down all levels: the fixed point of consistency distillation by them, and of training."""
    g = load("oracles", "systems")
    levels = Neighbours(E).time(SDE, jnp.arange(float(count)), jnp.float64(count - 1))
    x = 80 * jnp.linspace(-1.0, 1.0, 4)[:, None]
    sde_v = float(g["consistency__v"])
    denoise = lambda x, t: sde_v / (sde_v + expand(t, x) ** 2) * x
    step = lambda x, ends: (euler_step(SDE, denoise, x, *(jnp.full(4, end) for end in ends)), None)
    x, _ = jax.lax.scan(step, x, (levels[:0:-1], levels[-2::-1]))
    np.testing.assert_allclose(np.ptp(x) / 160, g[f"consistency__gain_CT_N{count}"], rtol=1e-9)


@pytest.mark.parametrize("pair", ["data", "teacher"])
def test_the_fixed_point_is_biased_and_the_same_without_a_teacher(float64, pair):
    """The expected loss's slope in the gain of f(x, t) is 0 at a (V + t s) / (V + t^2), a the gain of f(x, s).

    Expectations over x_0 and z by quadrature, exact for a quadratic.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    x0, z = (a.reshape(-1, 1) for a in np.meshgrid(M + V**0.5 * nodes, nodes, indexing="ij"))
    weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
    t, s, a = 3.0, 1.1, 0.6
    x0, times = jnp.asarray(x0), (jnp.full(64, t), jnp.full(64, s))
    x = x0 + t * jnp.asarray(z)
    told = (lambda x, t: x0) if pair == "data" else exact_denoiser(SDE)
    before = euler_step(SDE, told, x, *times)
    line = lambda gain: lambda x, t: M + gain * (x - M)
    options = {"metric": l2, "weighting": denoising.denoiser}
    loss = lambda gain: jnp.sum(weight * pair_loss(line(gain), line(a), SDE, x, times[0], before, times[1], **options))
    fixed, exact = a * (V + t * s) / (V + t**2), a * np.sqrt((V + s**2) / (V + t**2))
    slope, scale = jax.jit(lambda gain: (jax.grad(loss)(gain), jax.hessian(loss)(gain)))(fixed)
    np.testing.assert_allclose(slope / scale, 0, atol=1e-14)
    assert abs(fixed - exact) > 1e-3 * fixed
    spread = loss(fixed)  # what stays of the loss: of training the spread of x_s
    np.testing.assert_allclose(spread, a**2 * V * (t - s) ** 2 / (V + t**2) if pair == "data" else 0, atol=1e-14)


def test_levels_are_of_noise_and_not_of_time(float64):
    """The same pairs of noise levels under every SDE, in [t_min, T], s below t."""
    u = jnp.linspace(0, 1 - 1e-9, 97)
    for name, sde in (CONTINUOUS | INTERPOLANTS).items():
        share = Share(denoising.LogNormalTimes(-0.8, 1.6), 1e-3)
        for levels in (Neighbours(1e-3), LogNormalNeighbours(1e-3), share):
            t, s = levels(sde, u, jnp.float64(10))
            assert (s < t).mean() > 0.9 and (s <= t).all(), name
            assert s.min() >= 1e-3 * (1 - 1e-9) and t.max() <= sde.T, name
            if levels is not share:
                ratio = noise_level(sde, t) ** (1 / 7) - noise_level(sde, s) ** (1 / 7)
                np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)


def test_the_norms_slope_at_nothing_is_nothing():
    for huber in (0.0, 0.03):
        np.testing.assert_array_equal(jax.grad(lambda d, h=huber: PseudoHuber(h)(d).sum())(jnp.zeros((2, 3))), 0)
