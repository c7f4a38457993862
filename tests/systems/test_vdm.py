"""Variational diffusion: the published schedules, losses and samples, and the bound of Gaussian data in closed form."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import log_likelihood
from score_sde.networks.fourier import fourier_features
from score_sde.networks.gamma import CURVE, Curve, Gamma, Line
from score_sde.objectives.variational import gaussian_decoder
from score_sde.rng import Purpose, child, example_keys, positions, root_key, uniform
from score_sde.scores.divergence import Exact
from score_sde.sde import Learned
from score_sde.solvers import RK45, Ancestral
from score_sde.systems import VDM
from score_sde.training.step import View
from tests.golden_files import load, quick_jit, relative_error
from tests.systems.diffusing import BYTES, Bent, Linear, integrals, vdm

VIEW = View(jnp.int32(0), {}, {})
TOLERANCE = 1e-6
"""Of float32 sums; the sources' float32 is within 1e-7 of float64 (golden/systems/README.md)."""
CANCELLED = 6e-5
"""Where the source takes expm1 of a difference of float32 gammas."""


def golden(group: str, file: str = "vdm") -> dict[str, Any]:
    return {k.split("__", 1)[1]: v for k, v in load(file, "systems").items() if k.startswith(f"{group}__")}


def tree(g: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The golden's parameters under a prefix, as a schedule has them."""
    found: dict[str, Any] = {}
    for name, value in g.items():
        if name.startswith(prefix):
            *branches, leaf = name.removeprefix(prefix).split("/")
            (found.setdefault(branches[0], {}) if branches else found)[leaf] = value
    return found


SCHEDULES = {"scalar": Line(-13.3, 5.0), "nnet": Curve(-13.3, 5.0)}


@pytest.mark.parametrize("name", ["fixed", "scalar", "nnet"])
def test_schedules_and_their_slopes_are_the_published_ones(name):
    g = golden(f"gamma_{name}")
    schedule = SCHEDULES.get(name, Gamma(fixed=True))
    sde = Learned(tree(g, "params/"), schedule)
    assert relative_error(sde.gamma(g["t"]), g["gamma"]) < TOLERANCE
    assert relative_error(sde.slope(g["t"]), g["dgamma_dt"]) < TOLERANCE


def test_a_curve_between_given_ends_is_the_published_one():
    """Of the recorded parameters, brought to their own ends; and the ends are kept whatever the curve."""
    g = golden("gamma_nnet")
    curve = tree(g, "params/")
    low, high = g["gamma"][0], g["gamma"][-1]
    ends = {"b": jnp.array([low]), "w": jnp.array([low - high])}  # w by its magnitude
    sde = Learned({"ends": ends, CURVE: curve}, Gamma(features=1024))
    np.testing.assert_allclose(sde.gamma(g["t"]), g["gamma"], atol=2e-5)
    bent = jax.tree.map(lambda x: x + 3 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), curve)
    other = Learned({"ends": ends, CURVE: bent}, Gamma(features=1024))
    np.testing.assert_allclose(other.gamma(jnp.array([0.0, 1.0])), [low, high], rtol=1e-6)
    assert np.abs(other.gamma(g["t"]) - g["gamma"]).max() > 0.1 and (np.diff(other.gamma(g["t"])) > 0).all()


def test_fourier_features_are_the_published_ones():
    """Whose phases up to 2^7 2 pi float32 has to 5e-5."""
    g = golden("fourier")
    np.testing.assert_allclose(fourier_features(jnp.asarray(g["x"]), (6, 7)), g["y"], atol=1e-4)


def test_the_decoder_is_the_published_one():
    g = golden("encdec")
    x = (2 * g["x"].astype(np.float32) + 1) / 256 - 1
    assert relative_error(x, g["encoded"]) < TOLERANCE
    z = jnp.asarray(g["z_rescaled"], jnp.float32)
    for gamma in (-13.3, -6.0):
        found = BYTES(jnp.asarray(x), z, jnp.float32(gamma))
        assert relative_error(found.sum((1, 2, 3)), g[f"logprob_g{gamma}"]) < 5e-6
        values = jnp.linspace(BYTES.low, BYTES.high, 256)[None]
        every = BYTES(values, jnp.broadcast_to(z[0, 0, 0][:, None], (3, 256)), jnp.float32(gamma))
        assert relative_error(every, g[f"log_probs_first_pixel_g{gamma}"]) < TOLERANCE


def test_the_decoder_counts_grey_images_once():
    """The published one repeats its values over three channels, whatever there are, so counts one three times."""
    one = BYTES(jnp.zeros((2, 4, 4, 1)), jnp.full((2, 4, 4, 1), 0.01), jnp.float32(-8.0))
    three = BYTES(jnp.zeros((2, 4, 4, 3)), jnp.full((2, 4, 4, 3), 0.01), jnp.float32(-8.0))
    assert one.shape == (2, 4, 4, 1)
    np.testing.assert_allclose(3 * one.sum((1, 2, 3)), three.sum((1, 2, 3)), rtol=1e-6)


CASES = [(name, steps) for name in SCHEDULES for steps in (0, 8, 1000)]


@pytest.mark.parametrize(("name", "steps"), CASES, ids=lambda value: str(value))
def test_losses_are_the_published_ones(float64, name, steps):
    """Of recorded times and noise, in nats; in float64, so that the source's rounding is all there is.

    Its float32 has z_0 to 6e-8, which is 5e-5 of the noise there, and 1 - sigma^2 at t = 1, 0.0067, to 1e-5.
    """
    g = {key: np.asarray(value, np.float64) for key, value in golden(f"loss_learnable_{name}_T{steps}").items()}
    x0 = jnp.asarray((2 * load("vdm", "systems")["loss__x"].astype(np.float64) + 1) / 256 - 1)
    system, params = (
        vdm(x0.shape[1:], SCHEDULES[name], num_scales=steps),
        {"score": {}, "schedule": tree(g, "gamma_params/")},
    )
    sde = system.sde(params)
    for t in (0, 1):
        assert relative_error(sde.sigma(float(t)) ** 2, g[f"var_{t}"][0]) < 5e-6
    u = g["t"] - 0.5 / steps if steps else g["t"]
    terms = quick_jit(system.terms_at)(params, x0, {}, u, g["eps"], g["eps_0"])
    nats = {name: term * 48 * np.log(2) for name, term in terms.items()}
    expected = {
        "recon": ("recon", 5e-5),
        "klz": ("klz", 2e-5),
        "diffusion": ("diff", CANCELLED if steps else TOLERANCE),
    }
    for ours, (theirs, tolerance) in expected.items():
        assert relative_error(nats[ours], g[f"loss_{theirs}"]) < tolerance, ours


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_ancestral_solver_draws_the_published_chain(name):
    g = golden(f"loss_learnable_{name}_T8")
    system, params = vdm((4, 4, 3), SCHEDULES[name]), {"score": {}, "schedule": tree(g, "gamma_params/")}
    sde, score = system.sde(params), system.score(params)
    step = quick_jit(lambda x, t, s, z: Ancestral().update(sde, score, x, t, s, z).x)
    x = g["sample_z"][0]
    for k, z in enumerate(g["sample_eps"]):
        x = step(x, jnp.float32(1 - k / 8), jnp.float32(1 - (k + 1) / 8), z)
        assert relative_error(x, g["sample_z"][k + 1]) < CANCELLED
    decoded = np.round((x / sde.alpha(0.0) + 1) * 128 - 0.5)
    np.testing.assert_array_equal(np.clip(decoded, 0, 255), g["sample_x"])


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine"])
def test_the_bound_of_gaussian_data_is_the_closed_form_and_depends_on_the_ends_alone(float64, name):
    """By the exact network; in T steps it depends on the schedule, and so does the variance over t."""
    g = golden("vdm", "oracles")
    params = {"score": {"v": np.float64(g["v"])}, "schedule": {}}
    at = lambda steps: vdm((1,), Bent(name), Linear(), num_scales=steps, decoder=gaussian_decoder)
    bound, diffusion, square = integrals(at(0), params, float(g["v"]))
    assert bound == pytest.approx(float(g["bound"]), rel=1e-9)
    assert bound - g["entropy"] == pytest.approx(5.9195e-6, rel=1e-4)  # what both ends lose, in closed form
    assert diffusion == pytest.approx(float(g["diffusion_continuous"]), rel=1e-10)
    assert square / 3 - diffusion**2 == pytest.approx(float(g[f"estimator_var_{name}"]), rel=1e-9)
    for steps in (8, 64, 1000):
        found = integrals(at(steps), params, float(g["v"]))[1]
        assert found == pytest.approx(float(g[f"diffusion_{name}_T{steps}"]), rel=1e-10)


def test_in_float32_a_thousand_steps_lose_nothing_more():
    """The difference of gammas by its own rounding, not by expm1's."""
    g = golden("vdm", "oracles")
    system = vdm((1,), Bent(), Linear(), num_scales=1000, decoder=gaussian_decoder)
    found = integrals(system, {"score": {"v": np.float32(g["v"])}, "schedule": {}}, float(g["v"]))[1]
    assert found == pytest.approx(float(g["diffusion_linear_T1000"]), rel=2e-5)


def learning(**more: Any) -> tuple[VDM, Any, Any]:
    """A system with a curve inside, its parameters, and 16 examples of losses."""
    system = vdm((3,), Gamma(-3.0, 2.0, features=4), Linear(), decoder=gaussian_decoder, **more)
    params = system.init(root_key(0), {})
    keys, x0 = example_keys(root_key(1), positions(0, 16)), 0.4 * jax.random.normal(jax.random.key(2), (16, 3))
    return system, params, (keys, x0, {}, (jnp.arange(16) + 0.3) / 16)


def flat(params: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.mark.parametrize("steps", [0, 8])
def test_the_ends_are_trained_by_the_bound_and_the_curve_by_the_estimators_square(steps):
    """Against gradients of either; of a number of steps, whose bound the curve changes, all by the bound."""
    system, params, (keys, *given) = learning(num_scales=steps)
    grads = quick_jit(jax.grad(lambda p: system.losses(p, VIEW, keys, *given)[0].mean()))(params)

    def alone(function):  # nothing of squared_in_the_last
        terms = lambda p: dataclasses.replace(Plain.of(system)).terms(p, keys, *given)
        return quick_jit(jax.grad(lambda p: function(terms(p)).mean()))(params)

    bound = alone(lambda terms: sum(terms.values()))
    np.testing.assert_allclose(flat(grads["score"]), flat(bound["score"]), rtol=1e-5)
    np.testing.assert_allclose(flat(grads["schedule"]["ends"]), flat(bound["schedule"]["ends"]), rtol=1e-5)
    square = bound if steps else alone(lambda terms: terms["diffusion"] ** 2)
    np.testing.assert_allclose(flat(grads["schedule"][CURVE]), flat(square["schedule"][CURVE]), rtol=1e-4, atol=1e-6)


class Plain(VDM):
    """Whose diffusion term is differentiated as it stands."""

    @classmethod
    def of(cls, system: VDM) -> "Plain":
        return cls(**{field.name: getattr(system, field.name) for field in dataclasses.fields(system)})

    def _diffused(self, diffusion, params, t):
        return diffusion(params, self.sde(params))


def test_an_example_depends_on_nothing_else():
    """Bitwise, of one batch size: losses and bounds."""
    system, params, (keys, x0, _, u) = learning()
    both = quick_jit(
        lambda keys, x0, u: (system.losses(params, VIEW, keys, x0, {}, u)[0], system.bound(params, keys, x0, {})[0])
    )
    other = np.roll(np.arange(16), 5)
    for one, two in zip(both(keys, x0, u), both(keys[other], x0[other], u[other])):
        np.testing.assert_array_equal(one[other], two)
        assert len(set(np.asarray(one).tolist())) == 16


def test_the_bound_is_the_loss_in_nats():
    system, params, (keys, x0, condition, _) = learning()
    u = uniform(child(keys, Purpose.TIME))
    loss, terms = quick_jit(lambda: system.losses(params, VIEW, keys, x0, condition, u, training=False))()
    nats, parts = quick_jit(lambda: system.bound(params, keys, x0, condition))()
    np.testing.assert_allclose(nats, loss * 3 * np.log(2), rtol=1e-6)
    assert set(parts) == {"recon", "klz", "diffusion"}
    np.testing.assert_allclose(sum(parts.values()), nats, rtol=1e-6)
    np.testing.assert_allclose([terms["gamma_0"][0], terms["gamma_1"][0]], [-3.0, 2.0], rtol=1e-6)


def test_the_log_snr_is_inverted_and_its_derivative_too():
    """Of a curve, in float32; beyond the ends it is 0 or 1."""
    schedule = Gamma(features=8)
    sde = Learned(schedule.init(root_key(0), 0.0)["params"], schedule)
    t = jnp.linspace(0.0, 1.0, 33)
    inverse = quick_jit(lambda snr: jax.jvp(sde.time, (snr,), (jnp.ones_like(snr),)))
    found, slope = inverse(sde.log_snr(t))
    np.testing.assert_allclose(found, t, atol=2e-6)
    np.testing.assert_allclose(slope[1:-1], -1 / sde.slope(t[1:-1]), rtol=1e-4)
    np.testing.assert_array_equal(sde.time(jnp.array([40.0, -40.0])), [0.0, 1.0])


def test_the_likelihood_by_the_ode_of_the_learned_sde_is_the_closed_form(float64):
    """Of Gaussian data, at the noise of t_min; the prior is off by what is left of the data at t = 1."""
    system = vdm((2,), Gamma(-10.0, 4.0, features=8), Linear(), decoder=gaussian_decoder)
    params = {**system.init(root_key(0), {}), "score": {"v": np.float64(0.16)}}
    sde, x0 = system.sde(params), jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
    keys = example_keys(root_key(0), positions(0, 4))
    options = {"divergence": Exact(), "solver": RK45(1e-6, 1e-6), "t_min": 1e-5}
    found = quick_jit(lambda x: log_likelihood(keys, system.score(params), sde, x, **options).log_prob[:, 0])(x0)
    variance, left = (sde.alpha(t) ** 2 * 0.16 + sde.sigma(t) ** 2 for t in (1e-5, 1.0))
    exact = -0.5 * (x0**2 / variance + jnp.log(2 * jnp.pi * variance)).sum(1)
    off = 0.5 * (x0**2 / variance * (1 - left) + jnp.log(left)).sum(1)  # N(0, 1) and not N(0, left) of z_1
    np.testing.assert_allclose(found, exact + off, atol=2e-5)
