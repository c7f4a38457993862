"""Losses of latent spaces against the published codes: mixed prediction, cross entropy, critics' losses."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.objectives import adversarial
from score_sde.objectives.cross_entropy import cross_entropy
from score_sde.objectives.denoising import LikelihoodTimes, UniformTimes, likelihood, simple
from score_sde.scores.mixed import Mixed
from score_sde.sde import subvp, ve, vp
from score_sde.typing import sum_per_example
from tests.golden_files import load, relative_error

EXACT = 1e-12
LSGM = {"vpsde": vp(), "subvp": subvp(), "vesde": ve(1e-2, 20.0)}
"""Theirs of these names; their vesde has the variance 1e-4 at first, which ours leaves out."""


def golden(group):
    return {k.split("__")[1]: v for k, v in load("lsgm", "systems").items() if k.startswith(f"{group}__")}


def pictures(x):
    """[B, C, H, W] -> [B, H, W, C]."""
    return jnp.asarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("name", LSGM)
def test_a_standard_normals_noise_is_the_published_mixing_component(float64, name):
    """At the weight 0 of the network. Of vesde to the share 1e-4 of the variance that theirs begins with."""
    x, t = pictures(load("lsgm", "systems")["x_noisy"]), jnp.asarray(load("lsgm", "systems")["t"])
    sde = LSGM[name]
    none = Mixed(jnp.full(2, -jnp.inf))
    found = -none.score(x, x, sde, t) * sde.sigma(t)[:, None, None, None]
    error = relative_error(found, pictures(golden(name)["mixing_component"]))
    assert error < (EXACT if name != "vesde" else 1e-4)


def test_a_prediction_and_its_score_are_inverse_and_weight_1_is_the_network(float64):
    x, output = (pictures(load("lsgm", "systems")[name]) for name in ("x_noisy", "objective__network_output"))
    t = jnp.linspace(0.1, 0.9, len(x))
    mixed = Mixed(jnp.array([-1.0, 0.5]))
    for sde in (vp(), ve()):
        assert relative_error(mixed.output(mixed.score(output, x, sde, t), x, sde, t), output) < EXACT
        alone = Mixed(jnp.full(2, jnp.inf)).score(output, x, sde, t)
        assert relative_error(alone, -output / sde.sigma(t)[:, None, None, None]) < EXACT


def test_mixture_objective_and_cross_entropy_are_the_published_ones(float64):
    """At the recorded times and weights; theirs of a prior's own gradient is |eps - eps_hat|^2 over its law of t."""
    g, law, sde = golden("objective"), golden("vpsde_drop_all_iw"), vp()
    t, mixed = jnp.asarray(law["t"]), Mixed(jnp.asarray(g["mixing_logit"][0, :, 0, 0]))
    z_t, eps, output = (pictures(g[name]) for name in ("z_t", "eps", "network_output"))
    alpha, sigma = (v[:, None, None, None] for v in (sde.alpha(t), sde.sigma(t)))
    assert relative_error(alpha * pictures(g["z0"]) + sigma * eps, g["z_t"].transpose(0, 2, 3, 1)) < EXACT
    predicted = -sigma * mixed.score(output, z_t, sde, t)
    assert relative_error(predicted, pictures(g["prediction"])) < EXACT
    squares, ratio = sum_per_example((eps - predicted) ** 2), jnp.asarray(law["weight_p"])
    assert relative_error(ratio * squares, g["p_objective"]) < EXACT
    t_min, size = load("lsgm", "systems")["vpsde__cross_entropy_const"], 18
    found = cross_entropy(sde, t, ratio / (1 - 0.01), squares, t_min=0.01, dimension=size)
    assert relative_error(found, g["cross_entropy"]) < EXACT and t_min < 0


@pytest.mark.parametrize("name", ["vpsde", "subvp"])
def test_weights_of_both_gradients_are_the_published_ones(float64, name):
    """Encoder and decoder meet g^2 / (2 sigma^2), a prior's own gradient 1; uniform t from the recorded rho."""
    sde, rho = LSGM[name], jnp.asarray(load("lsgm", "systems")["rho"])
    t, ratio = UniformTimes(0.01)(sde, rho)
    both = {word: golden(f"{name}_{word}_uniform") for word in ("ll", "drop_all", "drop_sigma2t")}
    for g in both.values():
        assert relative_error(t, g["t"]) < EXACT and relative_error(sde.sigma(t) ** 2, g["var"]) < EXACT
        assert relative_error(sde.alpha(t), g["m"]) < EXACT and relative_error(sde.diffusion(t) ** 2, g["g2"]) < EXACT
        assert relative_error(likelihood(sde, t) / 2, g["weight_ll"]) < EXACT
    assert relative_error(likelihood(sde, t) / 2, both["ll"]["weight_p"]) < EXACT
    assert relative_error(simple(sde, t) * ratio, both["drop_all"]["weight_p"] * np.ones(12)) < EXACT
    t, zero = jnp.asarray(load("lsgm", "systems")["t"]), jnp.zeros(12)
    one = cross_entropy(sde, t, zero, zero, t_min=0.01, dimension=1)
    assert relative_error(one, load("lsgm", "systems")[f"{name}__cross_entropy_const"] * np.ones(12)) < EXACT


def test_the_cross_entropy_of_a_standard_normal_prior_has_its_closed_form(float64):
    """Of z_0 at one place, and of the recorded oracle's Gaussian, by quadrature over u; eps = +-1 has exact moments.

    D / 2 (1 + ln 2 pi) + D / 2 ln s_1 + (|z|^2 - D) (s_1 - s_e) / 2, s = sigma^2 at T and t_0, whatever z.
    """
    o = {k[6:]: v for k, v in load("oracles", "systems").items() if k.startswith("lsgm__")}
    sde, u = vp(), (jnp.arange(20_000.0) + 0.5) / 20_000
    z = jnp.sqrt(jnp.asarray(o["mean"] ** 2 + o["std"] ** 2))  # the second moment is all that matters
    for t_min in (float(o["time_eps"]), 1e-4):
        t, ratio = LikelihoodTimes(t_min)(sde, u)
        alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
        residual = [eps - sigma * (alpha * z[None] + sigma * eps) for eps in (1.0, -1.0)]
        squares = jnp.mean(jnp.asarray([(r**2).sum(1) for r in residual]), axis=0)
        found = cross_entropy(sde, t, ratio, squares, t_min=t_min, dimension=3).mean()
        s_1, s_e = sde.sigma(1.0) ** 2, sde.sigma(t_min) ** 2
        expected = 1.5 * (1 + np.log(2 * np.pi) + np.log(s_1)) + ((z**2).sum() - 3) * (s_1 - s_e) / 2
        np.testing.assert_allclose(found, expected, rtol=1e-7)
        if t_min == 0.01:
            np.testing.assert_allclose(found, o["cross_entropy"], rtol=1e-6)


def test_a_critics_losses_and_weight_are_the_published_ones(float64):
    arrays = load("latent", "systems").items()
    g = {name: jnp.asarray(value) for name, value in arrays if name.startswith(("gan", "adaptive"))}
    for name in ("hinge", "vanilla"):
        found = getattr(adversarial, name)(g["gan__real"], g["gan__fake"]).mean()
        assert relative_error(found, g[f"gan__{name}"]) < EXACT
    weights = adversarial.switched(jnp.array([99, 100]), 100) * 0.7
    np.testing.assert_allclose(weights, [g["gan__adopt_before"], g["gan__adopt_after"]], rtol=1e-6)
    found = adversarial.adaptive_weight(g["adaptive__nll_grad"][None], g["adaptive__g_grad"][None])
    assert relative_error(0.5 * found[0], g["adaptive__weight"]) < EXACT  # with the weight 0.5 of the config
    assert adversarial.adaptive_weight(jnp.full((1, 2), 1e9), jnp.zeros((1, 2)))[0] == adversarial.LARGEST
