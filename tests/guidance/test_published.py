"""Published rules that others' code computes beside those of this package: the recorded arrays, and how they differ."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.guidance.classifier import class_log_prob, classifier_guided
from score_sde.guidance.classifier_free import apart, classifier_free
from score_sde.guidance.measurement import Measurement, dot, measurement
from score_sde.guidance.operators import mask
from score_sde.guidance.projected import by_denoisers, nearest_multiple, projected_difference
from score_sde.scores.posterior import Large, Learned, log_variances
from score_sde.sde import transition
from score_sde.sde.chain import VPChain, vp_chain
from score_sde.solvers import DDIM, Ancestral
from score_sde.solvers.base import Step
from score_sde.solvers.ddnm import DDNM
from score_sde.solvers.ddrm import DDRM
from score_sde.solvers.dps import DPS
from score_sde.solvers.reference_controlled import Masked
from score_sde.solvers.repaint import RePaint
from score_sde.solvers.replacement import Replacement
from tests.golden_files import Arrays, relative_error
from tests.guidance.problems import PROBLEMS, golden, law, measured
from tests.oracles import CHAINS, CONTINUOUS


def adms(variance: str, sde: VPChain, i: int) -> jax.Array:
    """Its variances of the step from level i: posterior, of the forward step, half-way (its network says 0)."""
    small, large = (jnp.exp(v) for v in log_variances(sde, jnp.asarray(i / 10), jnp.asarray((i + 1) / 10)))
    above = small if i else jnp.exp(log_variances(sde, jnp.asarray(0.1), jnp.asarray(0.2))[0])
    return {"FIXED_SMALL": small, "FIXED_LARGE": large if i else above, "LEARNED_RANGE": jnp.sqrt(above * large)}[
        variance
    ]


@pytest.mark.parametrize("variance", ["FIXED_SMALL", "FIXED_LARGE", "LEARNED_RANGE"])
def test_sigma_g_falls_short_of_the_score_form(float64, variance):
    """ADM's condition_mean adds Sigma g to a step's mean, which the score form moves by b^2 / a g; its whole runs."""
    g, data = golden("adm"), law("mix")
    sde, score = vp_chain(g["betas_respaced"]), data.score(vp_chain(g["betas_respaced"]))
    start, label = jnp.asarray(g["x"]).reshape(3, -1), jnp.asarray(g["y"])
    nothing = lambda x, t: jnp.zeros_like(x)
    slope = jax.jit(classifier_guided(nothing, class_log_prob(data.log_responsibilities(sde), label)))
    mean = jax.jit(lambda x, t, s: Ancestral().update(sde, score, x, t, s, jnp.zeros_like(x)).mean)
    found = []
    for i in (0, 3, 8):
        t, s, sigma = jnp.asarray((i + 1) / 10), jnp.asarray(i / 10), adms(variance, sde, i)
        at = lambda key, i=i: g[f"{variance}/t{i}/{key}"].reshape(3, -1)
        np.testing.assert_allclose(at("variance"), sigma, rtol=1e-9)
        assert relative_error(mean(start, t, s), at("mean")) < 1e-9
        for scale in (1, 4):
            moved = mean(start, t, s) + scale * sigma * slope(start, t)
            assert relative_error(moved, at(f"scale{scale}/condition_mean")) < 1e-9
            guided = Ancestral().update(
                sde, lambda x, t, k=scale: score(x, t) + k * slope(x, t), start, t, s, jnp.zeros_like(start)
            )
            assert relative_error(guided.mean, at(f"scale{scale}/condition_score_mean")) < 1e-8
        a, b = transition(sde, s, t)
        found.append(float(sigma / (b**2 / a)))
    shares = {"FIXED_SMALL": [0, 0.43, 0.39], "FIXED_LARGE": [1, 0.73, 0.39], "LEARNED_RANGE": [None, 0.56, 0.39]}
    for share, expected in zip(found, shares[variance], strict=True):
        assert expected is None or share == pytest.approx(expected, abs=0.01)
    for scale in (1, 4):
        x = start
        for i, z in zip(range(9, -1, -1), jnp.asarray(g["loop_noise"]).reshape(10, 3, -1), strict=True):
            t, s, sigma = jnp.asarray((i + 1) / 10), jnp.asarray(i / 10), adms(variance, sde, i)
            x = mean(x, t, s) + scale * sigma * slope(x, t) + (jnp.sqrt(sigma) * z if i else 0)
        assert relative_error(x, g[f"{variance}/p_sample_loop/scale{scale}"].reshape(3, -1)) < 1e-8


Steps = list[tuple[int, int, int]]


def repaint_steps(levels: int, jump: int, repeats: int) -> Steps:
    """The published schedule as steps of ours, (from, to, repeats): levels count down from levels - 1 to -1, x_0."""
    tops = range(0, levels - jump, jump)
    alone = [(k, k - 1, 1) for k in range(levels - 1, tops[-1] + jump, -1)]
    return [*alone, *((k + jump, k, repeats) for k in reversed(tops)), (0, -1, 1)]


def visited(steps: Steps) -> list[int]:
    """Every level in order: down, and up again but after the last time."""
    found = [steps[0][0]]
    for high, low, repeats in steps:
        down, up = list(range(high - 1, low - 1, -1)), list(range(low + 1, high + 1))
        found += [*(down + up) * (repeats - 1), *down]
    return found


SCHEDULES = {"paper250": (250, 10, 10), "t12_j3_r2": (12, 3, 2), "t10_j1_r3": (10, 1, 3)}


def test_repaints_schedules():
    """Of the paper's repository and of diffusers', whose last level has no name."""
    g = golden("repaint")
    for name, numbers in SCHEDULES.items():
        np.testing.assert_array_equal(visited(repaint_steps(*numbers)), g[f"schedule/{name}"])
    np.testing.assert_array_equal([9, *visited(repaint_steps(9, 1, 3))], g["schedule/t10_n3"])
    g = golden("diffusers")
    np.testing.assert_array_equal(visited(repaint_steps(250, 10, 10))[:-1], g["timesteps_250_10_10_over4"])
    np.testing.assert_array_equal(10 * np.array(visited(repaint_steps(10, 3, 2)))[:-1], g["timesteps_10_3_2"])


def measured_pixels(g: Arrays, name: str) -> Measurement:
    """The known pixels of both pictures, exact."""
    known, truth = (g[key].reshape(2, -1) for key in ("mask", f"{name}/gt"))
    return measurement(mask(known[0], (8,)), jnp.asarray(known * truth), 0, (8,))


def translated(g: Arrays, run: str, sde: VPChain, steps: Steps) -> Iterator[np.ndarray]:
    """Its draws as draws of ours, [legs, 3, B, D] for every step.

    It puts the known part in before a call of the model, of the level where x is, and goes up level by level; ours puts
    it in after the step and goes up at once. The law is the same, and so are the numbers where the noise of the way up
    is the sum of its parts and, of the known part, what brings it to the noise that the next call meets.
    """
    noise, calls = iter(g[f"{run}/noise"].reshape(len(g[f"{run}/noise"]), 2, -1)), 0
    known = g["mask"].reshape(2, -1)
    legs: list[np.ndarray] = []
    way_up = None

    def call() -> None:
        nonlocal calls, way_up
        drawn, calls = next(noise), calls + 1
        if legs:
            met = next(noise)
            if way_up is None:
                legs[-1][1] = met
            else:
                ups, (high, low) = way_up
                above = jnp.asarray((high + 1) / levels)
                _, b = transition(sde, jnp.asarray((low + 1) / levels), above)
                legs[-1][2] = known * sde.sigma(above) * met / b + (1 - known) * ups / b
        legs.append(np.stack([drawn, np.zeros_like(drawn), np.zeros_like(drawn)]))
        way_up = None

    levels = steps[0][0] + 1
    for high, low, repeats in steps:
        for k in range(repeats):
            for _ in range(high - low):
                call()
            if k < repeats - 1:
                ups = np.zeros_like(legs[-1][0])
                for level in range(low + 1, high + 1):
                    a, b = transition(sde, jnp.asarray(level / levels), jnp.asarray((level + 1) / levels))
                    ups = a * ups + b * next(noise)
                way_up = ups, (high, low)
    assert calls == g[f"{run}/calls"]
    assert next(noise, None) is None
    at = 0
    for high, low, repeats in steps:
        count = (high - low) * repeats
        yield np.stack(legs[at : at + count])
        at += count


@pytest.mark.parametrize("run", ["t12_j3_r2", "t10_j1_r3"])
@pytest.mark.parametrize("name", ["gauss", "mix"])
def test_repaints_runs(float64, name, run):
    """Its whole runs by our steps; the variance is half-way between the two in logarithm."""
    g, data = golden("repaint"), law(name)
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[g[f"{run}/timestep_map"]]
    sde = vp_chain(1 - bars / np.concatenate([[1.0], bars[:-1]]))
    known = measured_pixels(g, name)
    inner = Ancestral(Learned(lambda x, t: jnp.full_like(x, 0.5)))
    x, steps = jnp.asarray(g[f"{name}/xT"]).reshape(2, -1), repaint_steps(*SCHEDULES[run])
    score = data.score(sde)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def step(jump, repeats, x, t, s, noise):
        solver = RePaint(Replacement(sde, known, aware=False), jump, repeats, inner=inner)
        return solver.given(sde, score, x, t, s, lambda n, which: noise[n, which])

    last, found = x, Step(x, x)
    for (high, low, repeats), noise in zip(steps, translated(g, run, sde, steps), strict=True):
        last, (t, s) = x, (jnp.asarray((level + 1) / len(bars)) for level in (high, low))
        found = step(high - low, repeats, x, t, s, jnp.asarray(noise))
        x = found.x
    # The last call's own mean: known pixels are the model's.
    assert relative_error(found.mean, g[f"{name}/{run}/sample"].reshape(2, -1)) < 1e-9
    D = data.denoiser(sde)(last, jnp.asarray(1 / len(bars)))
    assert relative_error(D, g[f"{name}/{run}/pred_xstart"].reshape(2, -1)) < 1e-9


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("name", ["gauss", "mix"])
def test_the_repaint_of_diffusers(float64, name, eta):
    """Our step and replacement, of one noise for both; its way up takes betas ten levels too high, as written here."""
    g, data = golden("diffusers"), law(name)
    betas, at = g["repaint_betas"], lambda key: jnp.asarray(g[key]).reshape(2, -1)
    sde = vp_chain(betas)
    noise = iter(jnp.asarray(g[f"eta{eta}/noise"]).reshape(109, 2, -1))
    replacement, x, score = Replacement(sde, measured_pixels(g, name), aware=False), at("xT"), data.score(sde)
    time = lambda level: jnp.asarray(max(level + 1, 0) / 100)

    @jax.jit
    def down(x, t, s, z):
        return replacement.given(DDIM(eta).update(sde, score, x, t, s, z).x, s, z)

    levels = [*g["timesteps_10_3_2"]]
    for k, (level, before) in enumerate(zip(levels, [91, *levels[:-1]], strict=True)):
        if level < before:
            x = down(x, time(level), time(level - 10), next(noise))
        else:
            for beta in betas[before : before + 10]:
                x = np.sqrt(1 - beta) * x + np.sqrt(beta) * next(noise)
        if k == 0:
            assert relative_error(x, at(f"{name}/eta{eta}/first_prev")) < 1e-9
            D = data.denoiser(sde)(at("xT"), time(90))
            assert relative_error(D, at(f"{name}/eta{eta}/first_x0")) < 1e-9
    assert relative_error(x, at(f"{name}/eta{eta}/sample")) < 1e-9


CASES = [f"{name}/{problem}" for name in ("gauss", "mix") for problem in PROBLEMS]


@pytest.mark.parametrize("case", CASES)
def test_manifold_constrained_gradients(float64, case):
    """MCG is DPS' step, and the measurement put in with noise of the level that x has left (Chung et al. 2022)."""
    g, (name, problem) = golden("dps"), case.split("/")
    data, m = law(name), measured(name, problem, golden("dps")[f"{case}/y"])
    sde, inverse = vp_chain(g["betas_respaced"]), np.linalg.pinv(g[f"{case}/A"])
    solver = DPS(m, 1.0, bounded=False, inner=Ancestral(Large()))
    replacement, score = Replacement(sde, m, aware=False), data.score(sde)

    @jax.jit
    def step(x, t, s, z, n):
        return replacement.given(solver.update(sde, score, x, t, s, z).x, t, n)

    x, noise = (jnp.asarray(g[f"{case}/{key}_batch1"]) for key in ("xT", "noise_x"))
    x, noise, times = x.reshape(1, -1), noise.reshape(10, 1, -1).at[-1].set(0), jnp.arange(10, -1, -1) / 10
    of_y = jnp.asarray(g[f"{case}/noise_y_batch1"].reshape(10, 1, -1) @ inverse.T)
    for i in range(10):
        x = step(x, times[i], times[i + 1], noise[i], of_y[i])
    assert relative_error(x, g[f"{case}/mcg_scale1_batch1"].reshape(1, -1)) < 1e-9


@pytest.mark.parametrize("sde_name", ["vp", "ve"])
@pytest.mark.parametrize("name", ["gauss", "mix"])
def test_diffusionjaxs_replacements(float64, name, sde_name):
    """In part, by the share; and the official arithmetic's inpainting with its start and its mean."""
    g, sde, case = golden("diffusionjax"), CONTINUOUS[sde_name], f"{name}/inpaint"
    m = measured(name, "inpaint", g[f"{case}/y"])
    at = lambda key: jnp.asarray(g[f"{case}/{sde_name}/{key}"])
    t, x = at("t")[1], at("x")[1]
    part = Replacement(sde, m, aware=False, share=0.7)
    replaced = part.given(x, t, at("projected/noise")[0])
    assert relative_error(replaced, at("projected/x")[1]) < 1e-9
    # Its mean too is made of the x just noised.
    assert relative_error(part.given(replaced, t, jnp.zeros_like(x)), at("projected/x_mean")[1]) < 1e-9
    A = jnp.asarray(g[f"{case}/A"])
    known = Masked(jnp.broadcast_to(m.y @ A, x.shape), jnp.broadcast_to(A.sum(0)[None], x.shape))
    chain = CHAINS[sde_name]
    found = known.replaced(chain, x, jnp.full(3, t), at("inpainted/noise")[0])
    assert relative_error(found.x, at("inpainted/x")[1]) < 1e-9
    assert relative_error(found.mean, at("inpainted/x_mean")[1]) < 1e-9
    prior = sde.prior_std * at("inpainted/prior_noise")[0]
    assert relative_error(known.start(prior), at("inpainted/prior")) < 1e-9


def test_projected_guidance_of_diffusers(float64):
    """With its defaults, whose share of the parallel part is 1; its momentum is 0 in a first step, its bound 2."""
    g = golden("diffusers")
    c, u = (jnp.asarray(g[f"guider/{key}"]) for key in ("cond", "uncond"))
    guided = lambda *options: u + 3 * projected_difference(c, u, *options)
    assert relative_error(guided(1.0), g["guider/apg"]) < 1e-9
    assert relative_error(guided(1.0, 2.0), g["guider/apg_momentum"]) < 1e-9
    from_multiple = nearest_multiple(c, u)
    assert relative_error(from_multiple + 3 * (c - from_multiple), g["guider/cfgzero"]) < 1e-9


def test_projections_by_their_definitions(float64):
    g = golden("diffusers")
    c, u = (jnp.asarray(g[f"guider/{key}"]) for key in ("cond", "uncond"))
    across = projected_difference(c, u)
    np.testing.assert_allclose(dot(across, c), 0, atol=1e-12)
    np.testing.assert_allclose(projected_difference(c, u, 1.0), c - u, rtol=1e-12)
    bounded = projected_difference(c, u, 1.0, 0.5)
    np.testing.assert_allclose(dot(bounded, bounded), 0.25, rtol=1e-12)
    np.testing.assert_allclose(dot(c - nearest_multiple(c, u), u), 0, atol=1e-12)
    sde, data, x, t = CONTINUOUS["vp"], law("mix"), jnp.ones((2, 8)), jnp.asarray(0.3)
    pair = apart(data.part((0,)).score(sde), data.score(sde))
    same = by_denoisers(pair, sde, lambda c, u: u + 2 * projected_difference(c, u, 1.0))
    assert relative_error(same(x, t), classifier_free(pair, 2.0)(x, t)) < 1e-12


@pytest.mark.parametrize("run", ["ddnm", "ddnm_travel2x2", "ddnm_plus"])
@pytest.mark.parametrize("case", CASES)
def test_ddnms_runs(float64, case, run):
    """Ten steps, with and without travel in time; DDNM+ is DDRM's law, and its numbers with the same noise."""
    g, (name, problem) = golden("ddrm"), case.split("/")
    if f"{case}/{run}" not in g:
        pytest.skip("not recorded")
    plus, travel = run == "ddnm_plus", run.endswith("2x2")
    data, m = law(name), measured(name, problem, g[f"{case}/y"], 0.1 if plus else 0.0)
    sde, noise = vp_chain(np.linspace(1e-4, 0.02, 1000)), iter(jnp.asarray(g[f"{run}_noise"]).reshape(-1, 2, 8))
    score, x, time = (
        data.score(sde),
        jnp.asarray(g["xT"]).reshape(2, -1),
        lambda k: jnp.asarray(max(k, -0.01) / 10 + 1e-3),
    )

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def step(jump, repeats, x, t, s, z):
        if plus:
            return DDRM(m).update(sde, score, x, t, s, z[0, 0]).x
        return DDNM(m, 0.85, jump, repeats).given(sde, score, x, t, s, lambda n, which: z[n, which]).x

    steps = repaint_steps(10, 2, 2) if travel else [(k, k - 1, 1) for k in range(9, -1, -1)]
    last = x
    for high, low, repeats in steps:
        legs = [[next(noise), jnp.zeros_like(x)] for _ in range(high - low)]
        for _ in range(repeats - 1):
            legs[-1][1] = [next(noise) for _ in range(high - low)][-1]  # it draws for every level on the way
            legs += [[next(noise), jnp.zeros_like(x)] for _ in range(high - low)]
        last, x = x, step(high - low, repeats, x, time(high), time(low), jnp.asarray(legs))
    assert next(noise, None) is None
    assert relative_error(x, g[f"{case}/{run}"].reshape(2, -1)) < 1e-9
    assert relative_error(data.denoiser(sde)(last, time(0)), g[f"{case}/{run}_x0"].reshape(2, -1)) < 1e-9
