"""The solvers against trajectories that other people's programs made, in float64 (tests/golden/solvers/README.md)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.scores.posterior import Large, Small
from score_sde.sde import SDE, denoiser, karras, ve, vp
from score_sde.sde.chain import linear_betas, vp_chain
from score_sde.solvers import (
    DDIM,
    Ancestral,
    AncestralNoise,
    Churned,
    Data,
    DPMSolverAdaptive,
    DPMSolverMultistep,
    DPMSolverSDE,
    DPMSolverSinglestep,
    Euler,
    ExponentialAdams,
    GottaGoFast,
    Heun,
    LimitedGrowth,
    LinearMultistep,
    Noise,
    UniPC,
    UniPCVaryCoeff,
)
from score_sde.solvers.churn import ancestral_noise
from tests.golden_files import load, relative_error
from tests.oracles import recorded_law
from tests.solvers.recorded import trajectory

pytestmark = [pytest.mark.certification, pytest.mark.usefixtures("float64")]
TOLERANCE = 1e-6
LAWS = ("gauss", "mix")
PREDICTIONS = {"dpmsolver": Noise(), "dpmsolver++": Data(), "noise_prediction": Noise(), "data_prediction": Data()}


def agree(ours, recorded):
    assert relative_error(ours, recorded) < TOLERANCE


def keys(file, *parts):
    return [k for k in load(file, "solvers") if all(p in k for p in parts)]


@pytest.mark.parametrize("key", keys("dpm_solver", "multistep", "__traj"))
def test_dpm_solver_multistep(key):
    g, sde = load("dpm_solver", "solvers"), vp()
    law, algorithm, method, *rest = key.split("__")
    order = int(method[-1])
    score = recorded_law(law).score(sde)
    solver = DPMSolverMultistep(order, PREDICTIONS[algorithm], taylor="taylor" in key)
    if order == 1:
        solver = ExponentialAdams(1, PREDICTIONS[algorithm])
    if len(rest) > 2:  # one grid, named; denoise0 adds the denoised end
        skip, steps = rest[:2]
        ours = trajectory(solver, sde, score, g[f"{law}__x_init"], g[f"ts__multistep__{skip}__{steps}"])
        if "denoise0" in key:
            ours = jnp.concatenate([ours, denoiser(sde, score)(ours[-1], 1e-3)[None]])
        agree(ours, g[key])
        return
    skips = ("time_uniform",) if len(g[key]) == 1 else ("logSNR", "time_uniform", "time_quadratic")
    for skip, recorded in zip(skips, g[key]):
        agree(trajectory(solver, sde, score, g[f"{law}__x_init"], g[f"ts__multistep__{skip}__{rest[0]}"]), recorded)


@pytest.mark.parametrize("key", keys("dpm_solver", "singlestep", "__traj"))
def test_dpm_solver_singlestep(key):
    """Of the recorded orders, 3 except at the end; between the nodes lie times on the same kind of grid."""
    g, sde = load("dpm_solver", "solvers"), vp()
    law, algorithm, method, *rest = key.split("__")
    score, steps = recorded_law(law).score(sde), rest[-2]
    if "taylor" in key:
        steps, skips, recorded = "10", ("logSNR",), [g[key]]
    else:
        recorded = g[key]
        skips = ("time_uniform",) if len(recorded) == 1 else ("logSNR", "time_uniform", "time_quadratic")
    for skip, expected in zip(skips, recorded):
        times = g[f"ts__{method}__{skip}__{steps}"]
        x, found = jnp.asarray(g[f"{law}__x_init"]), []
        for order, t, s in zip(g[f"orders__{method}__{steps}"], times[:-1], times[1:]):
            fractions = inner_fractions(sde, skip, t, s, int(order))
            solver = DPMSolverSinglestep(int(order), PREDICTIONS[algorithm], fractions, taylor="taylor" in key)
            x = solver.update(sde, score, x, jnp.asarray(t), jnp.asarray(s))
            found.append(x)
        agree(jnp.stack(found), expected[1:])


def inner_fractions(sde, skip, t, s, order):
    """Where equal steps of time, of its root or of log-SNR between t and s lie in log-SNR."""
    if skip == "logSNR":
        return ()
    power = {"time_uniform": 1, "time_quadratic": 2}[skip]
    between = np.linspace(t ** (1 / power), s ** (1 / power), order + 1)[1:-1] ** power
    log_ratio = lambda u: float(sde.log_snr(jnp.asarray(u)))
    return tuple((log_ratio(u) - log_ratio(t)) / (log_ratio(s) - log_ratio(t)) for u in between)


@pytest.mark.parametrize("key", keys("unipc", "__traj"))
def test_unipc(key):
    """A recorded state is the corrected one, ours before its correction: the last one, never corrected, has seen all.

    The corrections also reach every later state.
    """
    g, sde = load("unipc", "solvers"), vp()
    law, prediction, variant, order, skip, steps, *_ = key.split("__")
    if variant == "vary_coeff":
        solver = UniPCVaryCoeff(int(order[1]), PREDICTIONS[prediction])
    else:
        solver = UniPC(int(order[1]), PREDICTIONS[prediction], variant == "bh2", lower_final="nolof" not in key)
    ours = trajectory(solver, sde, recorded_law(law).score(sde), g[f"{law}__x_init"], g[f"ts__{skip}__{steps}"])
    agree(ours[-1], g[key][-1])


@pytest.mark.parametrize("law", LAWS)
def test_the_exact_unipc_of_order_3_is_the_published_one_but_for_its_warm_up(law):
    """Where three outputs are at hand its function B cancels: from the same history both take the same step."""
    sde = vp()
    x, times = jnp.asarray(load("unipc", "solvers")[f"{law}__x_init"]), jnp.linspace(0.9, 0.1, 6)
    ours, theirs = (s.init(sde, x, times) for s in (ExponentialAdams(3, Data(), corrected=True), UniPC(3)))
    for row in ("outputs", "correction"):
        a, b = getattr(ours.table, row), getattr(theirs.table, row)
        rows = slice(2, 3) if row == "outputs" else slice(3, 4)
        np.testing.assert_allclose(a[rows], b[rows], rtol=1e-9, atol=1e-12)


KARRAS = {
    "euler": DPMSolverSinglestep(1),
    "heun": Heun(),
    "lms4": LinearMultistep(4),
    "lms2": LinearMultistep(2),
    "dpmpp_2m": DPMSolverMultistep(2),
    "dpmpp_2s_eta0": DPMSolverSinglestep(2),
    "dpmpp_2s_ancestral": AncestralNoise(DPMSolverSinglestep(2)),
    "euler_ancestral": DDIM(1.0),
    "euler_ancestral_eta0.5": DDIM(0.5),
    "heun_churn": Churned(Heun(), 4.0, 0.05, 50.0, 1.003),
    "euler_churn": Churned(Euler(), 4.0, 0.05, 50.0, 1.003),
    "dpmpp_2m_sde_midpoint": DPMSolverMultistep(2, Data(1.0)),
    "dpmpp_2m_sde_heun": DPMSolverMultistep(2, Data(1.0), taylor=True),
    "dpmpp_3m_sde": DPMSolverMultistep(3, Data(1.0), taylor=True),
    "dpm_2": DPMSolverSinglestep(2, Noise()),
    "dpm_2_ancestral": AncestralNoise(DPMSolverSinglestep(2, Noise())),
}
"""k-diffusion's names; a Markov chain of its own in each."""


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", KARRAS)
def test_k_diffusion(name, law):
    """The last recorded step, to sigma = 0, is a denoising except in the linear multistep method."""
    g, sde = load("kdiffusion", "solvers"), karras()
    score, times = recorded_law(law).score(sde), g["sigmas_karras"]
    noise, x = g.get(f"{law}__{name}__noise") if name != "dpmpp_2s_eta0" else None, g[f"{law}__x_init"]
    if name.startswith("lms"):
        agree(trajectory(KARRAS[name], sde, score, x, times), g[f"{law}__{name}__traj"])
        return
    ours = trajectory(KARRAS[name], sde, score, x, times[:-1], None if noise is None else noise[:9])
    end = denoiser(sde, score)(ours[-1], times[-2])[None]
    if "_churn" not in name:
        agree(jnp.concatenate([ours, end]), g[f"{law}__{name}__traj"])
        return
    # Recorded after the noise of every step: our states, with the noise that they are about to be given.
    raise_to = np.where((times[:-1] >= 0.05) & (times[:-1] <= 50), 1 + min(4.0 / 10, np.sqrt(2) - 1), 1)
    added = np.sqrt(raise_to**2 - 1) * times[:-1] * 1.003
    agree(jnp.concatenate([ours + added[:, None, None] * noise, end]), g[f"{law}__{name}__traj_hat"])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("name", "eta", "inflation"), [("dpmpp_sde", 1.0, 1.0), ("dpmpp_sde_eta0.5", 0.5, 1.003)])
def test_k_diffusion_in_two_stages(name, eta, inflation, law):
    """Recorded with independent noises in both stages, which some bridge joins to one path."""
    g, sde = load("kdiffusion", "solvers"), karras()
    score, times = recorded_law(law).score(sde), g["sigmas_karras"][:-1]
    inner, z = (inflation * g[f"{law}__{name}__noise"][i::2] for i in range(2))
    share = (times[:-1] - np.sqrt(times[:-1] * times[1:])) / (times[:-1] - times[1:])
    share = share[:, None, None]
    between = (inner - np.sqrt(share) * z) / np.sqrt(1 - share)
    ours = trajectory(DPMSolverSDE(eta), sde, score, g[f"{law}__x_init"], times, z, between)
    agree(jnp.concatenate([ours, denoiser(sde, score)(ours[-1], times[-1])[None]]), g[f"{law}__{name}__traj"])


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_k_diffusion_ancestral_noise(eta):
    g = load("kdiffusion", "solvers")
    up = ancestral_noise(*jnp.asarray(g["ancestral_pairs"]).T, eta)
    r_s, recorded = g["ancestral_pairs"][:, 1], g[f"ancestral_eta{eta}"]
    agree(np.stack([np.sqrt(r_s**2 - up**2), up], axis=1), recorded)


@pytest.mark.parametrize("key", keys("kdiffusion", "dpm_fast"))
def test_k_diffusion_dpm_fast(key):
    """Steps of order 3, even in log sigma, and of lower orders at the end: as many evaluations as are asked for."""
    g, sde = load("kdiffusion", "solvers"), karras()
    law, name, _ = key.split("__")
    whole, rest = divmod(int(name.removeprefix("dpm_fast_nfe")), 3)
    orders = [3] * (whole - 1) + [2, 1] if rest == 0 else [3] * whole + [rest]
    times, x = np.geomspace(80, 0.002, len(orders) + 1), jnp.asarray(g[f"{law}__x_init"])
    for i, order in enumerate(orders):
        solver = DPMSolverSinglestep(order, Noise())
        x = solver.update(sde, recorded_law(law).score(sde), x, jnp.asarray(times[i]), jnp.asarray(times[i + 1]))
        agree(x, g[key][i + 1])


@pytest.mark.parametrize("key", keys("dpm_solver", "adaptive", "nfe"))
def test_adaptive_dpm_solver(key):
    """The number of evaluations too; the source passes its step sizes through float32."""
    g, sde = load("dpm_solver", "solvers"), vp()
    law, algorithm, name, _ = key.split("__")
    solver, score = DPMSolverAdaptive(int(name[-1]), prediction=PREDICTIONS[algorithm]), recorded_law(law).score(sde)
    x, evaluations = jax.jit(lambda x: solver.solve(None, sde, score, x, 1.0, 1e-3))(g[f"{law}__x_init"])
    agree(x, g[key.replace("nfe", "x_end")])
    assert int(evaluations) == g[key]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("order", [2, 3])
def test_k_diffusion_dpm_adaptive(order, law):
    g, sde = load("kdiffusion", "solvers"), karras()
    solver, score = DPMSolverAdaptive(order, control=LimitedGrowth()), recorded_law(law).score(sde)
    x, evaluations = jax.jit(lambda x: solver.solve(None, sde, score, x, 80.0, 0.002))(g[f"{law}__x_init"])
    agree(x, g[f"{law}__dpm_adaptive{order}__x"][-1])
    assert int(evaluations) == g[f"{law}__dpm_adaptive{order}__n_accept_reject_nfe"][2]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("sde_name", "s"), [("vp", 1e-3), ("ve", 1e-5)])
def test_gotta_go_fast(sde_name, s, law):
    """Every attempt with its recorded noise, at each sample's own time; a finished one has no next step there."""
    g, sde, solver = load("ggf_adaptive", "solvers"), {"vp": vp(), "ve": ve()}[sde_name], GottaGoFast()
    recorded = {key.split("__")[2]: g[key] for key in g if key.startswith(f"{sde_name}__{law}__")}
    score = recorded_law(law).score(sde)
    step = lambda going, z: (solver.attempt(sde, score, going, jnp.asarray(s), z), going)
    start = solver.start(jnp.asarray(recorded["x_init"]), sde.T)
    end, before = jax.jit(lambda start, noise: jax.lax.scan(step, start, noise))(start, jnp.asarray(recorded["noise"]))
    agree(before.t, recorded["t"])
    agree(jnp.minimum(before.size, before.t - s), recorded["h"])
    agree(before.x[: len(recorded["x"])], recorded["x"])
    agree(before.proposal[:20], recorded["x_prev"])
    agree(end.x, recorded["x_before_denoise"])
    agree(end.x + sde.sigma(s) ** 2 * score(end.x, jnp.asarray(s)), recorded["x_end"])
    assert (end.t == s).all()
    assert int(end.evaluations.max()) == 2 * recorded["iters"]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("kind", ["det", "churn"])
def test_edm(kind, law):
    """Algorithm 2 of Karras et al. 2022, with the constants of its paper."""
    g, sde = load("edm_sampler", "solvers"), karras()
    score, times = recorded_law(law).score(sde), g["t_steps"]
    solver = Churned(Heun()) if kind == "churn" else Heun()
    noise = g[f"{law}__heun_churn__noise"][:-1] if kind == "churn" else None
    ours = trajectory(solver, sde, score, 80.0 * g[f"{law}__latents"], times[:-1], noise)
    end = denoiser(sde, score)(ours[-1], times[-2])[None]
    agree(jnp.concatenate([ours, end]), g[f"{law}__heun_{kind}__traj"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scheduled(SDE):
    """EDM's general form: x_t = s(t) (x_0 + r(t) eps), r one of its three schedules, s = 1 or 1 / sqrt(1 + r^2)."""

    schedule: str = dataclasses.field(metadata={"static": True})
    scaled: bool = dataclasses.field(metadata={"static": True})
    beta_min: Any = 0.1
    beta_d: Any = 19.9
    T = 1.0
    prior_std = 1.0

    def r(self, t):
        of_vp = jnp.sqrt(jnp.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t))
        return {"vp": of_vp, "ve": jnp.sqrt(t), "linear": t}[self.schedule]

    def inverse(self, r):
        root = jnp.sqrt(self.beta_min**2 + 2 * self.beta_d * jnp.log1p(r**2))
        return {"vp": (root - self.beta_min) / self.beta_d, "ve": r**2, "linear": r}[self.schedule]

    def alpha(self, t):
        return 1 / jnp.sqrt(1 + self.r(t) ** 2) if self.scaled else jnp.ones_like(t)

    def sigma(self, t):
        return self.alpha(t) * self.r(t)

    def drift(self, x, t):
        slope = jax.jvp(self.alpha, (t,), (jnp.ones_like(t),))[1]
        return slope / self.alpha(t) * x

    def diffusion(self, t):
        r, slope = jax.jvp(self.r, (t,), (jnp.ones_like(t),))
        return self.alpha(t) * jnp.sqrt(2 * r * slope)

    def log_snr(self, t):
        return -2 * jnp.log(self.r(t))

    def time(self, log_snr):
        return self.inverse(jnp.exp(-0.5 * log_snr))


RANGES = np.array([[float(jnp.sqrt(jnp.expm1(0.5 * 19.9 * t**2 + 0.1 * t))) for t in (1e-3, 1.0)],
                   [0.02, 100], [0.002, 81], [0.002, 80]])  # fmt: skip
"""The lowest and the highest r of the four grids; they also set the schedule of VP's kind."""


@pytest.mark.parametrize("method", ["euler", "heun"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("schedule", ["vp", "ve", "linear"])
def test_edm_ablation(schedule, scaled, method):
    """Euler's and Heun's methods in three kinds of time, scaled or not, over four grids; the last step is Euler's."""
    g, place = load("edm_ablation", "solvers"), ["vp", "ve", "linear"].index(schedule)
    recorded = g["grid__traj"][:, place, int(scaled), ["euler", "heun"].index(method)]
    low, high = np.log1p(RANGES.T**2)
    beta_d = 2 * (low / 1e-3 - high) / (1e-3 - 1)

    def run(levels, beta_min, beta_d):
        sde = Scheduled(schedule, scaled, beta_min, beta_d)
        times, score = sde.inverse(levels), recorded_law("mix").score(sde)
        states = trajectory(
            Heun() if method == "heun" else Euler(), sde, score, g["mix__latents"] * sde.sigma(times[0]), times
        )
        return jnp.concatenate([states, Euler().update(sde, score, states[-1], times[-1], 0.0 * times[0])[None]])

    agree(jax.vmap(run)(g["grid__net_sigmas"][:, place], high - 0.5 * beta_d, beta_d), recorded)


@pytest.mark.parametrize("a", [0.5, 0.75])
def test_edm_other_second_order_methods(a):
    g, sde = load("edm_ablation", "solvers"), karras()
    times = jnp.asarray(g["grid__net_sigmas"][3, 2])
    ours = trajectory(Heun(a), sde, recorded_law("mix").score(sde), g["mix__latents"] * times[0], times)
    agree(ours, g[f"heun_alpha{a}__edm__linear__scale_none__traj"][:-1])


def test_edm_churn_under_vp():
    g, sde = load("edm_ablation", "solvers"), Scheduled("vp", True)
    times, score = (
        sde.inverse(jnp.asarray(g["grid__net_sigmas"][0, 0])),
        recorded_law("mix").score(Scheduled("vp", True)),
    )
    noise = g["churn_heun__vp__vp__scale_vp__noise"][:-1]
    solver = Churned(Heun(), 20.0, 0.01, 10.0, 1.007)
    ours = trajectory(solver, sde, score, g["mix__latents"] * sde.sigma(times[0]), times, noise)
    agree(ours, g["churn_heun__vp__vp__scale_vp__traj"][:-1])


CHAIN = vp_chain(linear_betas(1000))


@pytest.mark.parametrize("key", keys("ddpm_ddim", "ddim_", "__traj"))
def test_ddim(key):
    g = load("ddpm_ddim", "solvers")
    law, name, _ = key.split("__")
    _, spacing, one, eta = name.split("_")
    labels = g[f"ddim_{spacing}__timesteps"]
    after = labels - 50
    ends = np.where(after >= 0, after + 1, 0 if one == "one1" else 1) / 1000
    score, x, found = recorded_law(law).score(CHAIN), jnp.asarray(g[f"{law}__x_init"]), []
    step = jax.jit(lambda x, t, s, z: DDIM(float(eta[3:])).update(CHAIN, score, x, t, s, z).x)
    for label, s, z in zip(labels, ends, g[f"{law}__ddim__noise"]):
        x = step(x, (label + 1) / 1000, s, jnp.asarray(z))
        found.append(x)
    agree(jnp.stack(found), g[key][1:])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("kind", "variance"), [("small", Small()), ("large", Large())])
def test_ddpm(kind, variance, law):
    """The last recorded step, from the lowest level, is a denoising."""
    g = load("ddpm_ddim", "solvers")
    times, score = (g["ddpm__timesteps"] + 1) / 1000, recorded_law(law).score(CHAIN)
    noise = g[f"{law}__ddpm_fixed_{kind}__noise"]
    ours = trajectory(Ancestral(variance), CHAIN, score, g[f"{law}__x_init"], times, noise)
    end = denoiser(CHAIN, score)(ours[-1], times[-1])[None]
    agree(jnp.concatenate([ours, end]), g[f"{law}__ddpm_fixed_{kind}__traj"])


@pytest.mark.parametrize("law", LAWS)
def test_ddpm_single_steps_of_the_whole_chain(law):
    g, score = load("ddpm_ddim", "solvers"), recorded_law(law).score(CHAIN)
    for k, x, z, expected in zip(*(g[f"{law}__ddpm1000__{name}"] for name in ("k", "x", "z", "x_prev"))):
        agree(Ancestral().update(CHAIN, score, jnp.asarray(x), (k + 1) / 1000, k / 1000, jnp.asarray(z)).x, expected)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", ["deis1", "deis2", "deis3", "unipc2", "unipc3"])
def test_diffusers_multistep(name, law):
    g, order = load("ddpm_ddim", "solvers"), int(name[-1])
    score, labels = recorded_law(law).score(CHAIN), g[f"{name[:-1]}__timesteps"]
    solver = ExponentialAdams(order) if "deis" in name else UniPC(order)
    times = np.append(labels + 1, 1 if "deis" in name else 0) / 1000
    agree(trajectory(solver, CHAIN, score, g[f"{law}__x_init"], times)[-1], g[f"{law}__{name}__traj"][-1])
