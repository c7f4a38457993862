"""Classifier-free guidance, autoguidance, limits and classifiers: against recorded runs, and exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.guidance.classifier import class_log_prob, classifier_guided, guided_by
from score_sde.guidance.classifier_free import apart, batched, between, classifier_free, limited
from score_sde.guidance.limits import dynamic, rescaled, static, thresholded
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.posterior import Large, Small
from score_sde.sde import denoiser, karras
from score_sde.sde.analytic import mixture
from score_sde.sde.chain import vp_chain
from score_sde.solvers import DDIM, Ancestral, Churned, Heun, grids
from score_sde.solvers.limited_steps import LimitedSteps
from score_sde.solvers.sampling import sample
from tests.golden_files import relative_error
from tests.guidance.problems import golden, law
from tests.oracles import CONTINUOUS, FLOWING

EDM = karras()


def pieces():
    """The scores of EDM2's golden: class 1 of the mixture, the whole of it, a blurred class 1."""
    g, data = golden("edm2"), law("mix")
    bad = mixture(jnp.ones(1), jnp.asarray(g["bad/mu"]), covariances=jnp.asarray(g["bad/cov"]))
    return data.part((1,)).score(EDM), data.score(EDM), bad.score(EDM)


@pytest.mark.parametrize("sigma", ["0.1", "0.6", "2", "10"])
def test_edm2s_points(float64, sigma):
    g = golden("edm2")
    at = lambda key: g[f"points/sigma{sigma}/{key}"].reshape(4, -1)
    c, u, bad = pieces()
    x, t = jnp.asarray(g["points/x"]).reshape(4, -1), jnp.asarray(float(sigma))
    for key, score in {
        "cond": c,
        "uncond": u,
        "bad": bad,
        "edm2_lerp_2.5": classifier_free(apart(c, u), 2.5),
        "edm2_lerp_autog_2.5": classifier_free(apart(c, bad), 2.5),
    }.items():
        assert relative_error(denoiser(EDM, score)(x, t), at(key)) < 1e-9, key


def edm2_times():
    """Its grid of eight steps, rho 7."""
    return jnp.asarray([(80 ** (1 / 7) + i / 7 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(8)])


RUNS = {
    "none_guidance1": lambda c, u, bad: c,
    "cfg_guidance1.4": lambda c, u, bad: classifier_free(apart(c, u), 1.4),
    "cfg_guidance3": lambda c, u, bad: classifier_free(apart(c, u), 3.0),
    "autoguidance_guidance2.1": lambda c, u, bad: classifier_free(apart(c, bad), 2.1),
}


@pytest.mark.parametrize("churn", [0, 20])
@pytest.mark.parametrize("run", RUNS)
def test_edm2s_runs(float64, run, churn):
    g, score, times = golden("edm2"), RUNS[run](*pieces()), edm2_times()
    x = 80.0 * jnp.asarray(g["noise"]).reshape(3, -1)
    noise = iter(jnp.asarray(g["edm2/churn_noise"]).reshape(5, 3, -1))
    solver = Churned(Heun(), float(churn), 0.05, 50.0, 1.003)
    memory = solver.init(EDM, x, times)
    for t, s in itertools.pairwise(times):
        drawn = next(noise) if churn and 0.05 <= t <= 50 else jnp.zeros_like(x)
        x = solver.given(EDM, score, x, t, s, memory, drawn).x
    x = denoiser(EDM, score)(x, times[-1])
    assert relative_error(x, g[f"edm2/{run}_churn{churn}"].reshape(3, -1)) < 1e-9


INTERVALS = {"none": (0.0, np.inf), "2_4": (4, 2), "0_7": (7, 0), "3_3": (3, 3)}


@pytest.mark.parametrize("name", INTERVALS)
def test_limited_by_the_step_as_published(float64, name):
    """Guided in the steps with the indices lo to hi: by the noise level where a step begins."""
    g, (c, u, _), times = golden("edm2"), pieces(), edm2_times()
    x = 80.0 * jnp.asarray(g["noise"]).reshape(3, -1)
    low, high = INTERVALS[name]
    if name != "none":  # from indices of steps to levels between them
        last, first = low, high
        low = 0.0 if last == 7 else float(jnp.sqrt(times[last] * times[last + 1]))
        high = np.inf if first == 0 else float(jnp.sqrt(times[first] * times[first - 1]))
    guided = classifier_free(apart(c, u), 2.0)
    solver = LimitedSteps(Heun(), c, low, high)
    keys = example_keys(root_key(0), positions(0, 3))
    for t, s in itertools.pairwise(times):
        x = solver.step(keys, EDM, guided, x, t, s, ()).x
    x = denoiser(EDM, limited(guided, c, EDM, low, high))(x, times[-1])
    assert relative_error(x, g[f"interval/{name}_G2"].reshape(3, -1)) < 1e-9


@pytest.mark.parametrize("name", ["class0", "class12"])
def test_azulas_w(float64, name):
    """Its w is lambda - 1."""
    g, sde, data = golden("azula"), CONTINUOUS["vp"], law("mix")
    parts = {"class0": (0,), "class12": (1, 2)}[name]
    pair = apart(data.part(parts).score(sde), data.score(sde))
    x, t = jnp.asarray(g["cfg/x"]), jnp.asarray(g["cfg/t"])
    for w in (0, 1, 2.5):
        found = denoiser(sde, classifier_free(pair, 1 + w))(x, t)
        assert relative_error(found, g[f"cfg/{name}/azula_w{w}"]) < 1e-9


def test_diffusers_guider_and_rescaling(float64):
    """Its original formulation is lambda - 1."""
    g = golden("diffusers")
    c, u = (jnp.asarray(g[f"guider/{key}"]) for key in ("cond", "uncond"))
    compared = 0
    for w in (0, 1, 1.5, 7.5):
        for original in (0, 1):
            guided = between(c, u, w + original)
            for share in (0, 0.7):
                expected = g[f"guider/cfg_w{w}_orig{original}_rescale{share}"]
                # Their deviation is the unbiased one, which cancels in the quotient.
                assert relative_error(rescaled(guided, c, share) if share else guided, expected) < 1e-9
                compared += 1
    assert compared == 16


def test_diffusers_thresholds():
    g = golden("diffusers")
    x = jnp.asarray(g["threshold/x"], jnp.float32)
    for share in ("0.95", "0.995"):
        for largest in ("1", "1.5", "10"):
            expected = g[f"threshold/diffusers_ratio{share}_max{largest}"]
            assert relative_error(dynamic(x, float(share), largest=float(largest)), expected) < 1e-5
    np.testing.assert_array_equal(dynamic(x, largest=1.0), static(x))


def test_the_neutral_scales_to_the_bit():
    sde, data = CONTINUOUS["vp"], law("mix")
    x, t = data.sample(example_keys(root_key(0), positions(0, 3))), jnp.float32(0.3)
    c, u = data.part((0,)).score(sde), data.score(sde)
    np.testing.assert_array_equal(classifier_free(apart(c, u), 1.0)(x, t), c(x, t))
    np.testing.assert_array_equal(classifier_free(apart(c, u), 0.0)(x, t), u(x, t))
    np.testing.assert_array_equal(limited(c, u, sde, 0.0, np.inf)(x, t), c(x, t))
    each = classifier_free(apart(c, u), jnp.array([0.0, 1.0, 2.0]))(x, t)
    np.testing.assert_array_equal(each[:2], jnp.stack([u(x, t)[0], c(x, t)[1]]))


def test_two_scores_by_one_evaluation():
    sde, data = CONTINUOUS["ve"], law("mix")
    x, t = data.sample(example_keys(root_key(0), positions(0, 3))), jnp.array([0.1, 0.5, 0.9])
    c, u = data.part((0,)).score(sde), data.score(sde)
    calls = []

    def score(x, t):
        calls.append(x.shape)
        half = len(x) // 2
        at = lambda a, part: t if t.ndim == 0 else t[part]
        first, second = slice(None, half), slice(half, None)
        return jnp.concatenate([c(x[first], at(t, first)), u(x[second], at(t, second))])

    for times in (t, t[0]):
        np.testing.assert_array_equal(batched(score)(x, times)[0], c(x, times))
        np.testing.assert_array_equal(batched(score)(x, times)[1], u(x, times))
    assert set(calls) == {(6, 8)}


@pytest.mark.parametrize("sde_name", FLOWING)
def test_the_exact_classifier_makes_the_class_score(float64, sde_name):
    sde, data = FLOWING[sde_name], law("mixf")
    x = data.sample(example_keys(root_key(0), positions(0, 3)))
    label = jnp.array([0, 2, 1])
    guided = classifier_guided(data.score(sde), class_log_prob(data.log_responsibilities(sde), label))
    for t in (jnp.asarray(0.3), jnp.array([0.01, 0.3, 0.8])):
        expected = [
            data.part((int(k),)).score(sde)(x[i : i + 1], t if t.ndim == 0 else t[i])[0] for i, k in enumerate(label)
        ]
        assert relative_error(guided(x, t), jnp.stack(expected)) < 1e-9


@pytest.mark.parametrize("variance", ["FIXED_SMALL", "FIXED_LARGE"])
@pytest.mark.parametrize("scale", [1, 4])
def test_adms_classifier_guidance_in_the_score_form(float64, scale, variance):
    """Its condition_score, of which the mean and x_0 follow; DDIM's loop is guided so."""
    g, data = golden("adm"), law("mix")
    sde = vp_chain(g["betas_respaced"])
    x, label = jnp.asarray(g["x"]).reshape(3, -1), jnp.asarray(g["y"])
    guided = classifier_guided(data.score(sde), class_log_prob(data.log_responsibilities(sde), label), float(scale))
    for i in (0, 3, 8):
        t, s = jnp.asarray((i + 1) / 10), jnp.asarray(i / 10)
        at = lambda key, i=i: g[f"{variance}/t{i}/{key}"].reshape(3, -1)
        assert relative_error(data.denoiser(sde)(x, t), at("pred_xstart")) < 1e-9
        assert relative_error(denoiser(sde, guided)(x, t), at(f"scale{scale}/condition_score_xstart")) < 1e-8
        step = Ancestral({"FIXED_SMALL": Small(), "FIXED_LARGE": Large()}[variance])
        mean = step.update(sde, guided, x, t, s, jnp.zeros_like(x)).mean
        assert relative_error(mean, at(f"scale{scale}/condition_score_mean")) < 1e-8
    for i in range(9, -1, -1):
        x = DDIM(0.0).update(sde, guided, x, jnp.asarray((i + 1) / 10), jnp.asarray(i / 10), jnp.zeros_like(x)).x
    assert relative_error(x, g[f"{variance}/ddim_sample_loop/scale{scale}"].reshape(3, -1)) < 1e-8


def test_a_density_of_clean_examples_is_the_measurements(float64):
    """Of log N(y; A x_0, sigma_y^2 I) guidance through the denoiser is DPS' equation 11."""
    from score_sde.guidance.dps import DPSScore
    from tests.guidance.problems import measured

    sde, data, y = CONTINUOUS["vp"], law("mix"), golden("oracles")["mix/blur/sy0.5/y"]
    m = measured("mix", "blur", y, 0.5)
    x, t = jnp.asarray(golden("oracles")["mix/blur/sy0.1/vp/x"]), jnp.asarray(0.3)
    found = guided_by(data.score(sde), sde, m.log_prob)(x, t)
    assert relative_error(found, DPSScore(None)(data.score(sde), sde, m)(x, t)) < 1e-12


def test_thresholds_hold_the_denoiser():
    sde, data = CONTINUOUS["edm"], law("mix")
    x, t = 5 * jnp.ones((2, 8)), jnp.float32(0.5)
    D = denoiser(sde, thresholded(data.score(sde), sde, static))(x, t)
    np.testing.assert_allclose(D, jnp.clip(data.denoiser(sde)(x, t), -1, 1), atol=1e-5)


@pytest.mark.parametrize("solver", [DDIM(1.0), LimitedSteps(Heun(), lambda x, t: -x / (1 + t**2), 0.5, 2.0)])
def test_guided_samples_compile_whole(solver):
    sde, data = CONTINUOUS["edm"], law("mix")
    score = limited(
        classifier_free(apart(data.part((0,)).score(sde), data.score(sde)), 2.0), data.score(sde), sde, 0.2, 5
    )
    keys, times = example_keys(root_key(0), positions(0, 3)), grids.karras(sde, 0.01, 8)
    x = jax.jit(lambda: sample(keys, score, sde, (8,), solver=solver, times=times).x)()
    assert np.isfinite(x).all()
