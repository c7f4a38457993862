"""The official arithmetic against the official code: single updates, whole replayed runs, the ODE's endpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.sde import SDE, VE, VP, SubVP
from score_sde.sde.analytic import gaussian
from score_sde.solvers import reference
from score_sde.typing import ScoreFn
from tests.golden_files import agree, load, relative_error
from tests.oracles import CHAINS, FAKE, FAKE_LEVELS, recorded_law

N = 10
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
    kind = "predictors" if method in PREDICTORS else "correctors"
    # At t = 1e-5 the official standard deviation, which annealed Langevin steps by, cancels.
    keep, which = (golden["t"] > 1e-3, "t > 1e-3") if (name, method) == ("vp", "ald") else (..., "")
    agree(x, "samplers", f"{name}/{method}/x", kind, keep, which)
    agree(mean, "samplers", f"{name}/{method}/x_mean", kind, keep, which)


@pytest.mark.parametrize("name", CHAINS)
def test_the_goldens_score_is_the_exact_one(name):
    golden = load("samplers")
    t = jnp.asarray(golden["t"])
    score = exact_score(CHAINS[name].sde, (8, 8, 3))(jnp.asarray(golden[f"{name}/x"]), t)
    # At t = 1e-5 the official std cancels; it hardly matters beside s = 0.5.
    agree(score, "samplers", f"{name}/score", "predictors")


@pytest.mark.parametrize("name", CHAINS)
def test_discretisation(float64, name):
    golden, chain = load("sde"), CHAINS[name]
    x, t, score = (jnp.asarray(golden[k], jnp.float64) for k in ("x", "t", "score"))
    f, g = chain.discretize(x, t)
    kind = "VE discretisation" if name == "ve" else "SDEs"
    keep, which = (golden["t"] > 1e-3, "t > 1e-3") if name == "subvp" else (..., "")
    agree(f, "sde", f"{name}/discretize_f", kind)
    agree(g, "sde", f"{name}/discretize_G", kind, keep, which)
    for prefix, flow in (("reverse", False), ("ode", True)):
        step = lambda z, flow=flow: reference.ReverseDiffusion(flow)(chain, lambda x, t: score, x, t, z)
        agree(x - step(x).mean, "sde", f"{name}/{prefix}_discretize_f", kind)
        noise = (step(jnp.ones_like(x)).x - step(x).mean)[:, 0, 0, 0]
        agree(noise, "sde", f"{name}/{prefix}_discretize_G", kind, keep, which)
    ones, grid_t = jnp.ones(33), jnp.asarray(golden["grid_t"], jnp.float64)
    f, g = chain.discretize(ones, grid_t)
    agree(f, "sde", f"{name}/grid_f", kind)
    agree(g, "sde", f"{name}/grid_G", kind)
    low, high = (chain.sde.sigma_min, chain.sde.sigma_max) if name == "ve" else (chain.sde.beta_min, chain.sde.beta_max)
    agree(np.array([low, high, chain.num_scales]), "sde", f"{name}/params", "SDEs")


def test_tables():
    agree(CHAINS["vp"].betas(), "sde", "vp/discrete_betas", "SDEs")
    agree(CHAINS["ve"].sigmas(), "sde", "ve/discrete_sigmas", "SDEs")


@pytest.mark.parametrize("name", CHAINS)
def test_scores_of_discrete_models(name):
    """Fractional labels and a truncated index under VP, rounded labels under VE; sub-VP is always continuous."""
    golden, network = load("losses"), FAKE_LEVELS if name == "ve" else FAKE[name][1]
    chain = CHAINS[name]
    score = chain.score(network, continuous=False)(golden[f"{name}/perturbed"], jnp.asarray(golden["t"]))
    keep, which = (golden["t"] > 1e-3, "t > 1e-3") if name == "subvp" else (..., "")
    agree(score, "losses", f"{name}/score_discrete", "losses", keep, which)
    continuous = chain.score(FAKE[name][1], continuous=True)(golden[f"{name}/perturbed"], jnp.asarray(golden["t"]))
    keep, which = (golden["t"] > 1e-3, "t > 1e-3") if name != "ve" else (..., "")
    agree(continuous, "losses", f"{name}/score", "losses", keep, which)


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
    choice = PREDICTORS[predictor + ("_pflow" if flow == "pflow1" else "")]
    score = exact_score(chain.sde, (4, 4, 3))
    x = jax.jit(
        lambda x: reference.predictor_corrector(
            chain,
            score,
            x,
            choice,
            corrector(correct),
            lambda i, j: recorded[i, j],
            corrections=steps,
            t_min=T_MIN[name],
            denoise=denoise == "denoise1",
        )[0]
    )(noise[0] * chain.sde.prior_std)
    agree((x + 1) / 2, "samplers", f"pc/{run}", "predictor-corrector runs")


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_ode_endpoints(name, denoise):
    """To within the recorded solve's own tolerance: JAX and torch differ by 9.3e-5 there."""
    golden, chain = load("samplers"), CHAINS[name]
    z = jnp.asarray(golden["ode/z"]) * chain.sde.prior_std
    score = exact_score(chain.sde, z.shape[1:])
    x = jax.jit(lambda z: reference.probability_flow(chain, score, z, t_min=T_MIN[name], denoise=denoise)[0])(z)
    agree(x, "samplers", f"ode/{name}/denoise{int(denoise)}", "ODE endpoints")


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


@pytest.mark.parametrize("law", ["gauss", "mix"])
def test_the_predictor_corrector_of_diffusers(float64, law):
    """Its VE loop with recorded noise: a Langevin correction with batch-mean norms, then reverse diffusion."""
    g, chain = load("sde_ve_pc", "solvers"), reference.DiscreteVE(VE(), 20)
    z = jnp.asarray(g[f"{law}__noise"]).reshape(20, 2, *g[f"{law}__noise"].shape[1:])
    x, _ = reference.predictor_corrector(
        chain,
        recorded_law(law).score(chain.sde),
        jnp.asarray(g[f"{law}__x_init"]),
        reference.ReverseDiffusion(),
        reference.Langevin(0.15),
        lambda i, j: z[i, j],
        t_min=1e-5,
    )
    assert relative_error(x, g[f"{law}__predictor_mean"][-1]) < 1e-6
