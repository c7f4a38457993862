"""Solvers that hold a measurement, and replacement: against the recorded steps and runs of other projects."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.guidance.diffpir import DiffPIRScore
from score_sde.guidance.measurement import measurement
from score_sde.guidance.mmps import MMPS
from score_sde.guidance.operators import matrix
from score_sde.guidance.tmpd import TMPD
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.posterior import Large
from score_sde.sde import denoiser
from score_sde.sde.chain import vp_chain
from score_sde.solvers import DDIM, Ancestral, grids
from score_sde.solvers.ddnm import DDNM
from score_sde.solvers.ddrm import DDRM
from score_sde.solvers.diffpir import DiffPIR
from score_sde.solvers.dps import DPS
from score_sde.solvers.pgdm import PGDM
from score_sde.solvers.repaint import RePaint
from score_sde.solvers.replacement import Replacement
from score_sde.solvers.sampling import sample
from tests.golden_files import relative_error
from tests.guidance.problems import PROBLEMS, golden, law, measured, operator
from tests.oracles import CONTINUOUS

CASES = [f"{name}/{problem}" for name in ("gauss", "mix") for problem in PROBLEMS]


def problem_of(file: str, case: str, sigma_y: float = 0.1):
    name, problem = case.split("/")
    return law(name), measured(name, problem, golden(file)[f"{case}/y"], sigma_y)


@pytest.mark.parametrize("sde_name", ["vp", "edm"])
@pytest.mark.parametrize("case", CASES)
def test_azulas_steps(float64, case, sde_name):
    g, sde = golden("azula"), CONTINUOUS[sde_name]
    data, measurement = problem_of("azula", case)
    at = lambda key: jnp.asarray(g[f"{case}/{sde_name}/{key}"])
    x, (t, s), score = at("x")[2], at("step_t_s"), data.score(sde)
    step = lambda solver, name, x=x: solver.update(sde, score, x, t, s, at(f"step_{name}_noise")[0]).x
    assert relative_error(step(DDIM(1.0), "ddpm"), at("step_ddpm")) < 1e-9
    for eta in (0, 1):
        name = f"pgdm_eta{eta}"
        assert relative_error(step(PGDM(measurement, eta), name), at(f"step_{name}")) < 1e-9
    dps = DPS(measurement, 1.0, bounded=False, inner=DDIM(1.0))
    assert relative_error(step(dps, "dps_batch1", x[:1]), at("step_dps_batch1")) < 1e-9
    if case.endswith("inpaint"):
        for eta in (0, 1):
            name, replacement = f"repaint_it3_eta{eta}", Replacement(sde, measurement, aware=False)
            noise = at(f"step_{name}_noise").reshape(3, 3, *x.shape)
            solver = RePaint(replacement, repeats=3, eta=eta)
            found = solver.given(sde, score, x, t, s, lambda n, which, noise=noise: noise[n, which]).x
            assert relative_error(found, at(f"step_{name}")) < 1e-9


RUNS = {
    "ddpm_mmps_cg4": (lambda m: MMPS(4, "cg", None), lambda m: DDIM(1.0)),
    "ddim_mmps_cg4": (lambda m: MMPS(4, "cg", None), lambda m: DDIM(0.0)),
    "ddpm_tmpd": (lambda m: TMPD(least=None), lambda m: DDIM(1.0)),
    "ddim_diffpir": (lambda m: DiffPIRScore(10.0), lambda m: DDIM(0.0)),
    "pgdm_eta1": (None, lambda m: PGDM(m, 1.0)),
    "dps_batch1": (None, lambda m: DPS(m, 1.0, bounded=False, inner=DDIM(1.0))),
}
LOOSE = {"ddpm_mmps_cg4": 2e-7, "ddim_mmps_cg4": 2e-7}


@cache
def update_of(run):
    """One step of a run under VP, compiled once for problems of the same shapes."""
    (guide, rule), sde = RUNS[run], CONTINUOUS["vp"]

    def update(data, known, x, t, s, z):
        score = data.score(sde)
        return rule(known).update(sde, guide(known)(score, sde, known) if guide else score, x, t, s, z).x

    return jax.jit(update)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("case", CASES)
def test_azulas_runs(float64, case, run):
    """Eight uniform steps from 1 to 0, where the last arrives at the denoised x_0."""
    g = golden("azula")
    if f"{case}/traj_{run}" not in g:
        pytest.skip("not recorded")
    if run == "ddim_diffpir" and case.endswith("blur"):
        pytest.skip("recorded with a system that is not solved")
    data, measurement = problem_of("azula", case)
    expected, noise = g[f"{case}/traj_{run}"], jnp.asarray(g[f"{case}/traj_{run}_noise"])
    x = jnp.asarray(g[f"{case}/traj_xT"])[: len(expected)]
    times = jnp.linspace(1, 0, 9)
    for t, s, z in zip(times[:-1], times[1:], noise, strict=True):
        x = update_of(run)(data, measurement, x, t, s, z)
    assert relative_error(x, expected) < LOOSE.get(run, 1e-9)


@pytest.mark.parametrize("sde_name", ["vp", "ve"])
@pytest.mark.parametrize("case", CASES)
def test_diffusionjax_inpainting(float64, case, sde_name):
    g, sde = golden("diffusionjax"), CONTINUOUS[sde_name]
    if f"{case}/{sde_name}/inpainted/x" not in g:
        pytest.skip("recorded for masks alone")
    _, measurement = problem_of("diffusionjax", case)
    at = lambda key: jnp.asarray(g[f"{case}/{sde_name}/{key}"])
    t, x = at("t")[1], at("x")[1]
    replaced = Replacement(sde, measurement, aware=False).given(x, t, at("inpainted/noise")[0])
    assert relative_error(replaced, at("inpainted/x")[1]) < 1e-9


BETAS = np.linspace(1e-4, 0.02, 1000)


OPTIONS = [
    f"{sigma_y}_{eta}" for sigma_y in ("0.1", "1e-08") for eta in ("eta0.85_etab1", "eta1_etab1", "eta0.85_etab0.5")
]


@cache
def ddrm_update(eta, eta_b):
    sde = vp_chain(BETAS)
    update = lambda data, known, *given: DDRM(known, eta, eta_b).update(sde, data.score(sde), *given).x
    return jax.jit(update)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_ddrm(float64, case, options):
    """Ten steps of the chain, the start included, with the recorded noise of every direction."""
    g = golden("ddrm")
    if f"{case}/ddrm_sigma0_{options}" not in g:
        pytest.skip("not recorded")
    sigma_y, eta, eta_b = (float(part.strip("etab")) for part in options.split("_"))
    data, measurement = problem_of("ddrm", case, sigma_y)
    sde, expected, noise = (
        vp_chain(BETAS),
        g[f"{case}/ddrm_sigma0_{options}"],
        f"{case}/ddrm_sigma0_{options.split('_')[0]}_noise",
    )
    spectrum = measurement.A.spectrum
    d = np.asarray(spectrum.values)
    drawn = iter(np.split(g[noise], np.cumsum(2 * g[f"{noise}_cols"])[:-1]))
    times = jnp.array([*range(900, -1, -100), -1]) / 1000 + 1e-3
    x, order = jnp.asarray(g["xT"]).reshape(2, -1), np.argsort(-d, kind="stable")
    S = float(sde.sigma(times[0]) / sde.alpha(times[0]))
    seen = d * S > sigma_y
    inverse = np.where(d > 0, 1 / np.where(d > 0, d, 1), 0)
    start = np.where(seen[None], np.asarray(spectrum.to_u(measurement.y)) * inverse[None], 0) + np.sqrt(
        np.maximum(S**2 - np.where(seen, sigma_y * inverse, 0) ** 2, 0)
    )[None] * np.asarray(x)
    x = spectrum.from_v(jnp.asarray(start)) / S  # of unit scale, where alpha_T would be exact, and noise as in V
    update = ddrm_update(eta, eta_b)
    for t, s in itertools.pairwise(times):
        S = float(sde.sigma(s) / sde.alpha(s))
        z, whole, after, before = np.zeros((2, 8)), *(next(drawn) for _ in range(3))
        z[:, order] = whole.reshape(2, -1)
        fine = d * S >= sigma_y
        coarse = [k for k in order if d[k] > 0 and not fine[k]]
        z[:, coarse] = after.reshape(2, -1)
        for k, value in zip(order, before.reshape(2, -1).T, strict=False):  # drawn for all, taken for these
            if d[k] > 0 and fine[k]:
                z[:, k] = value
        x = update(data, measurement, x, t, s, spectrum.from_v(jnp.asarray(z)))
    assert relative_error(x, expected.reshape(2, -1)) < 1e-9


@cache
def dps_update(scale):
    sde, inner = vp_chain(golden("dps")["betas_respaced"]), Ancestral(Large())
    update = lambda data, known, *given: (
        DPS(known, scale, bounded=False, inner=inner).update(sde, data.score(sde), *given).x
    )
    return jax.jit(update)


@pytest.mark.parametrize("scale", ["0.3", "1"])
@pytest.mark.parametrize("case", CASES)
def test_dps(float64, case, scale):
    """Ten respaced steps of the chain with the large variance, of one example."""
    g = golden("dps")
    data, measurement = problem_of("dps", case)
    x, noise = jnp.asarray(g[f"{case}/xT_batch1"]).reshape(1, -1), g[f"{case}/noise_x_batch1"].reshape(10, 1, -1)
    times = jnp.arange(10, -1, -1) / 10
    for i in range(10):
        z = jnp.asarray(noise[i]) if i < 9 else jnp.zeros_like(x)
        x = dps_update(float(scale))(data, measurement, x, times[i], times[i + 1], z)
    assert relative_error(x, g[f"{case}/ps_scale{scale}_batch1"].reshape(1, -1)) < 1e-9


RULES = {
    "ddrm": lambda sde, m: DDRM(m),
    "ddnm": lambda sde, m: DDNM(m, jump=2, repeats=2),
    "dps": lambda sde, m: DPS(m),
    "pgdm": lambda sde, m: PGDM(m),
    "diffpir": lambda sde, m: DiffPIR(m),
    "repaint": lambda sde, m: RePaint(Replacement(sde, m), jump=2, repeats=2),
}


@pytest.mark.parametrize("rule", [*RULES, "replacement"])
def test_samples_depend_on_their_own_key_and_measurement_alone(rule):
    """In any order, at the same size of batch to the bit, and cut to rounding."""
    sde, data = CONTINUOUS["edm"], law("mix")
    y = np.asarray(operator("mix", "box")(data.sample(example_keys(root_key(3), positions(0, 4)))))

    one, times = measured("mix", "box", y[0]), grids.karras(sde, 0.01, 12)

    @jax.jit
    def drawn(keys, y):
        m = type(one)(one.A, y, one.sigma_y)
        solver, constrain = (Ancestral(), Replacement(sde, m)) if rule == "replacement" else (RULES[rule](sde, m), None)
        return sample(keys, data.score(sde), sde, (8,), solver=solver, times=times, constrain=constrain)

    draw = lambda order: drawn(example_keys(root_key(0), positions(0, 4)[order]), jnp.asarray(y)[order])
    whole, evaluations = draw(np.arange(4))
    assert np.isfinite(whole).all()
    assert int(evaluations) == 12 * (4 if rule in ("repaint", "ddnm") else 1) + 1
    np.testing.assert_array_equal(draw(np.arange(4)[::-1]).x[::-1], whole)
    np.testing.assert_allclose(draw(np.arange(2)).x, whole[:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["ddnm", "ddrm", "pgdm", "repaint", "replacement"])
def test_a_measurement_of_all_without_noise_is_the_example(rule):
    sde, data = CONTINUOUS["edm"], law("mix")
    x0 = data.sample(example_keys(root_key(3), positions(0, 1)))
    m = measurement(matrix(np.eye(8), (8,)), x0, 0.0, (8,))
    solver, constrain = (Ancestral(), Replacement(sde, m)) if rule == "replacement" else (RULES[rule](sde, m), None)
    keys = example_keys(root_key(0), positions(0, 3))
    times = grids.karras(sde, 0.002, 20)
    x = sample(keys, data.score(sde), sde, (8,), solver=solver, times=times, constrain=constrain).x
    np.testing.assert_allclose(x, np.broadcast_to(x0, x.shape), atol=0.01)


def test_dps_does_not_shake_where_the_measurement_is_met(float64):
    """At a D that is the measurement the bounded step vanishes with the distance, the published one does not."""
    sde, data = CONTINUOUS["edm"], law("gauss")
    x, t, s = jnp.ones((1, 8)), jnp.asarray(0.01), jnp.asarray(0.005)
    D = denoiser(sde, data.score(sde))(x, t)
    m = measured("gauss", "blur", np.asarray(operator("gauss", "blur")(D))[0] + 1e-6)
    moved = [
        float(jnp.abs(DPS(m, 1.0, bounded).update(sde, data.score(sde), x, t, s, jnp.zeros_like(x)).x
                      - Ancestral().update(sde, data.score(sde), x, t, s, jnp.zeros_like(x)).x).max())
        for bounded in (True, False)
    ]  # fmt: skip
    assert moved[0] < 2e-6
    assert moved[1] > 0.1
