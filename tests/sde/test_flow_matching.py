"""Interpolants against flow_matching, whose time runs the other way: s = 1 - t is ours, and its velocity minus ours.

Left out of the file: `discrete__*`, flows of tokens, which no SDE here is of.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import log_likelihood
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.divergence import Exact
from score_sde.scores.parametrization import Denoiser, Difference, Noise
from score_sde.sde import SDE, LinearVP, Straight, cosine, polynomial, reverse, vp
from score_sde.sde.analytic import Mixture, mixture
from score_sde.solvers import RK45, AdaptiveSolver, Euler, Heun, Solver
from score_sde.solvers.sampling import carried
from tests.golden_files import load, relative_error

PATHS: dict[str, SDE] = {
    "cond_ot": Straight(), "polynomial_2": polynomial(2.0), "vp": vp(), "linear_vp": LinearVP(),
    "cosine": cosine(80.0, -80.0),  # as good as unbounded
}  # fmt: skip
KEYS = example_keys(root_key(0), positions(0, 6))
EXACT = RK45(1e-10, 1e-10, per_sample=True)
SEEN: set[str] = set()


def golden(name: str) -> np.ndarray:
    SEEN.add(name)
    return load("flow_matching", "systems")[name]


def law() -> Mixture:
    return mixture(*(jnp.asarray(golden(f"mix__{name}")) for name in ("w", "mu", "s")))


@pytest.mark.parametrize("name", PATHS)
def test_paths_and_conversions(float64, name):
    sde, s = PATHS[name], jnp.asarray(1 - golden("t"))
    data, noise, velocity = (jnp.asarray(golden(key)) for key in ("x1", "x0", "velocity"))
    mean, sigma = sde.marginal(data, s)
    x = mean + sigma[:, None] * noise
    flow = lambda score: -reverse(sde, lambda x, t: score, churn=0.0).drift(x, s)
    of_data, of_noise = Denoiser().score(data, x, sde, s), Noise().score(noise, x, sde, s)
    of_velocity = (sde.drift(x, s) + velocity) * (2 / sde.diffusion(s) ** 2)[:, None]
    to_data, to_noise = (lambda score, p=p: p.output(score, x, sde, s) for p in (Denoiser(), Noise()))
    ours = {
        "alpha_t": sde.alpha(s),
        "sigma_t": sigma,
        "d_alpha_t": -jax.vmap(jax.grad(sde.alpha))(s),
        "d_sigma_t": -jax.vmap(jax.grad(sde.sigma))(s),
        "snr_inverse": 1 - sde.time(2 * jnp.log(golden("snr"))),  # theirs is alpha / sigma
        "x_t": x,
        "dx_t": flow(of_data),
        "target_to_velocity": flow(of_data),
        "epsilon_to_velocity": flow(of_noise),
        "velocity_to_target": to_data(of_velocity),
        "velocity_to_epsilon": to_noise(of_velocity),
        "epsilon_to_target": to_data(of_noise),
        "target_to_epsilon": to_noise(of_data),
    }
    for key, value in ours.items():
        assert relative_error(value, golden(f"{name}__{key}")) < 1e-12, key


def run(solver: Solver | AdaptiveSolver, sde: SDE, times: np.ndarray) -> jax.Array:
    score, z = law().score(sde), jnp.asarray(golden("ode__z"))
    march = lambda z: carried(KEYS, score, sde, z, solver=solver, times=jnp.asarray(times), denoise=False).x
    return jax.jit(march)(z)


@pytest.mark.parametrize("name", ["cond_ot", "cosine", "vp", "linear_vp"])
def test_endpoints_of_an_exact_mixture(float64, name):
    """Of 20 even steps the very numbers; of theirs of many the adaptive solver's."""
    sde, ends = PATHS[name], np.array([0.999, 0.001])
    even = np.linspace(0.999, 0.001, 21)
    assert relative_error(run(Euler(), sde, even), golden(f"ode_{name}__euler_20")) < 1e-12
    assert relative_error(run(Heun(0.5), sde, even), golden(f"ode_{name}__midpoint_20")) < 1e-12
    assert relative_error(run(EXACT, sde, ends), golden(f"ode_{name}__rk4")) < 1e-8


@pytest.mark.parametrize("name", ["cond_ot", "cosine"])
def test_whole_flows_and_their_likelihoods(float64, name):
    """They go from 0 to 1, where alpha or sigma is 0 and there is no score: here to 1e-7 of both ends."""
    near, sde = 1e-7, PATHS[name]
    sde = Straight(1 - near) if name == "cond_ot" else sde
    x = golden(f"ode_{name}__dopri5_full")
    assert relative_error(run(EXACT, sde, np.array([1 - near, near])), x) < 2e-6
    score, options = law().score(sde), {"divergence": Exact(), "solver": EXACT, "t_min": near}
    found = jax.jit(lambda x: log_likelihood(KEYS, score, sde, x, **options))(jnp.asarray(x))
    np.testing.assert_allclose(found.log_prob[:, 0], golden(f"ode_{name}__log_likelihood"), atol=2e-5)
    np.testing.assert_allclose(found.z, golden(f"ode_{name}__source"), atol=2e-5)


def test_another_schedule_is_another_time_and_scale_of_the_same_flow(float64):
    """Their velocity of cond_ot, brought to cosine, and cosine's own."""
    s, z, sde = 1 - float(golden("transformed__t")), jnp.asarray(golden("ode__z")), PATHS["cosine"]
    velocity = -reverse(sde, law().score(sde), churn=0.0).drift(z, s)
    straight, data = PATHS["cond_ot"], law()
    t = straight.time(sde.log_snr(s))
    x0 = data.denoiser(straight)(straight.alpha(t) / sde.alpha(s) * z, jnp.full(6, t))
    brought = -reverse(sde, lambda x, t: Denoiser().score(x0, x, sde, t), churn=0.0).drift(z, jnp.full(6, s))
    for key in ("transformed__cond_ot_to_cosine", "transformed__direct_cosine"):
        assert relative_error(velocity, golden(key)) < 1e-12
        assert relative_error(brought, golden(key)) < 1e-12


def test_the_score_and_velocity_of_two_components(float64):
    """Closed forms of ours, in a file of such: straight lines, the velocity eps - x_0."""
    g = {
        name: load("oracles", "systems")[f"flow__{name}"] for name in ("t", "x", "std", "weights", "score", "velocity")
    }
    data = mixture(jnp.asarray(g["weights"]), jnp.array([[-1.0], [1.0]]), jnp.full(2, float(g["std"])))
    x, t, sde = jnp.asarray(g["x"])[:, None], jnp.full(len(g["x"]), float(g["t"])), Straight()
    score = data.score(sde)
    np.testing.assert_allclose(score(x, t)[:, 0], g["score"], rtol=1e-12)
    np.testing.assert_allclose(reverse(sde, score, churn=0.0).drift(x, t)[:, 0], g["velocity"], rtol=1e-12)
    np.testing.assert_allclose(Difference().output(score(x, t), x, sde, t)[:, 0], g["velocity"], rtol=1e-12)


def test_every_array_is_compared_but_those_of_tokens():
    """After the tests above; run alone it has seen nothing, and says nothing."""
    arrays = {name for name in load("flow_matching", "systems") if not name.startswith(("discrete__", "meta_json"))}
    assert not SEEN or arrays <= SEEN
