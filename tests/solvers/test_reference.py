"""The official arithmetic against the official code: single updates, whole replayed runs, the ODE's endpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.analytic import gaussian
from score_sde.sde import SDE, VE, VP, SubVP
from score_sde.solvers import reference
from score_sde.typing import ScoreFn
from tests.golden_files import load, relative_error

N = 10
CHAINS = {"vp": reference.DiscreteVP(VP()), "subvp": reference.DiscreteSubVP(SubVP()), "ve": reference.DiscreteVE(VE())}
SHORT = {
    "vp": reference.DiscreteVP(VP(0.1, 5.0), N),
    "subvp": reference.DiscreteSubVP(SubVP(0.1, 5.0), N),
    "ve": reference.DiscreteVE(VE(), N),
}
T_MIN = {"vp": 1e-3, "subvp": 1e-3, "ve": 1e-5}
PREDICTORS = {
    "euler_maruyama": reference.EulerMaruyama(),
    "euler_maruyama_pflow": reference.EulerMaruyama(probability_flow=True),
    "reverse_diffusion": reference.ReverseDiffusion(),
    "reverse_diffusion_pflow": reference.ReverseDiffusion(probability_flow=True),
    "ancestral_sampling": reference.Ancestral(),
    "none": reference.NoPredictor(),
}


def exact_score(sde: SDE, shape: tuple[int, ...]) -> ScoreFn:
    """The goldens' model: independent pixels N(m, s^2)."""
    golden = load("samplers")
    dimension = int(np.prod(shape))
    return gaussian(jnp.full(shape, golden["m"]), jnp.eye(dimension) * golden["s"] ** 2).score(sde)


def corrector(name: str) -> reference.Corrector | None:
    snr = float(load("samplers")["snr"])
    return {"langevin": reference.Langevin(snr), "ald": reference.AnnealedLangevin(snr), "none": None}[name]


UPDATES = [key.split("/") for key in load("samplers") if key.count("/") == 2 and key.endswith("x_mean")]


@pytest.mark.parametrize(("name", "method"), [tuple(parts[:2]) for parts in UPDATES])
def test_single_updates(name, method):
    golden, chain = load("samplers"), CHAINS[name]
    update = PREDICTORS.get(method) or corrector(method)
    score, z = lambda x, t: jnp.asarray(golden[f"{name}/score"]), jnp.asarray(golden["z"])
    x, mean, _ = update(chain, score, jnp.asarray(golden[f"{name}/x"]), jnp.asarray(golden["t"]), z)
    assert relative_error(x, golden[f"{name}/{method}/x"]) < 5e-5
    assert relative_error(mean, golden[f"{name}/{method}/x_mean"]) < 5e-5


@pytest.mark.parametrize("name", CHAINS)
def test_the_goldens_score_is_the_exact_one(name):
    golden = load("samplers")
    t = jnp.asarray(golden["t"])
    score = exact_score(CHAINS[name].sde, (8, 8, 3))(jnp.asarray(golden[f"{name}/x"]), t)
    # At t = 1e-5 the official std cancels; it hardly matters beside s = 0.5.
    assert relative_error(score, golden[f"{name}/score"]) < 5e-5


@pytest.mark.parametrize("name", CHAINS)
def test_discretisation_tables(name):
    golden, chain = load("sde"), CHAINS[name]
    f, g = chain.discretize(jnp.asarray(golden["x"]), jnp.asarray(golden["t"]))
    if np.max(np.abs(golden[f"{name}/discretize_f"])):
        assert relative_error(f, golden[f"{name}/discretize_f"]) < 5e-5
    keep = golden["t"] > 1e-3 if name == "subvp" else slice(None)
    assert relative_error(g[keep], golden[f"{name}/discretize_G"][keep]) < 1.5e-4
    if name == "vp":
        assert relative_error(chain.betas(), golden["vp/discrete_betas"]) < 1e-6
    if name == "ve":
        assert relative_error(chain.sigmas(), golden["ve/discrete_sigmas"]) < 1e-5


RUNS = [key[3:] for key in load("samplers") if key.startswith("pc/") and key.count("/") == 1 and "__" in key]


@pytest.mark.parametrize("run", RUNS)
def test_predictor_corrector_runs_replay_their_recorded_noise(run):
    golden = load("samplers")
    name, predictor, correct, n_steps, flow, denoise = run.split("__")
    steps = int(n_steps.removeprefix("nsteps")) if correct != "none" else 0
    chain, noise = SHORT[name], jnp.asarray(golden["pc/noise"])
    draws = steps + (predictor != "none")
    assert golden[f"pc/{run}/n_noise_used"] == 1 + N * draws
    recorded = noise[1 : 1 + N * draws].reshape(N, draws, *noise.shape[1:])
    predictor_noise = recorded[:, -1] if predictor != "none" else jnp.zeros_like(recorded[:, 0])
    choice = PREDICTORS[predictor + ("_pflow" if flow == "pflow1" else "")]
    score = exact_score(chain.sde, (4, 4, 3))
    x = jax.jit(
        lambda x: reference.predictor_corrector(
            chain,
            score,
            x,
            choice,
            corrector(correct),
            predictor_noise,
            recorded[:, :steps],
            t_min=T_MIN[name],
            denoise=denoise == "denoise1",
        )
    )(noise[0] * chain.sde.prior_std)
    assert relative_error((x + 1) / 2, golden[f"pc/{run}"]) < 5e-5


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_ode_endpoints(name, denoise):
    """To within the recorded solve's own tolerance: JAX and torch differ by 9.3e-5 there."""
    golden, chain = load("samplers"), CHAINS[name]
    z = jnp.asarray(golden["ode/z"]) * chain.sde.prior_std
    score = exact_score(chain.sde, z.shape[1:])
    x = jax.jit(lambda z: reference.probability_flow(chain, score, z, t_min=T_MIN[name], denoise=denoise))(z)
    assert relative_error(x, golden[f"ode/{name}/denoise{int(denoise)}"]) < 5 * 9.3e-5


def test_sub_vp_has_correctors_here_and_no_ancestral_predictor():
    """Where the original crashes: Langevin with VP's table, checked by hand."""
    golden, chain = load("samplers"), CHAINS["subvp"]
    x, t, z = (jnp.asarray(golden[k]) for k in ("subvp/x", "t", "z"))
    score = jnp.asarray(golden["subvp/score"])
    scale = 1 - (0.1 + (np.floor(golden["t"] * 999) / 999) * 19.9) / 1000
    size = 2 * scale * (0.16 * np.asarray(chain.sde.sigma(t))) ** 2
    by_hand = golden["subvp/x"] + size[:, None, None, None] * golden["subvp/score"]
    _, mean, _ = reference.AnnealedLangevin(0.16)(chain, lambda x, t: score, x, t, z)
    assert relative_error(mean, by_hand) < 1e-6
    with pytest.raises(NotImplementedError, match="sub-VP"):
        reference.Ancestral()(chain, lambda x, t: score, x, t, z)
