"""A denoising diffusion GAN against the official code's chain, losses and samples, and against closed forms."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.posterior import log_variances, posterior_mean, posterior_sample
from score_sde.sde import transition, vp
from score_sde.sde.chain import long_step_betas, vp_chain
from score_sde.systems import Adversarial
from score_sde.systems.adversarial import NO_SCORE, pair
from score_sde.training.step import View
from tests.golden_files import load, quick_jit, relative_error
from tests.systems import plane

TOLERANCE = 7.5e-6
"""By which the official float32 differs from float64, 7e-6 in golden/systems/README.md."""
VIEW = View(jnp.int32(0), {}, {})


def golden(group: str) -> dict[str, Any]:
    arrays = load("ddgan", "systems").items()
    return {name.split("__")[1]: value for name, value in arrays if name.startswith(f"{group}__")}


class ToyGenerator(nn.Module):
    """tanh(x + W z - 0.1 k), which the recorded chain was drawn with."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None, condition: Any = None):
        weights = self.param("W", nn.initializers.zeros, (condition["latent"].shape[-1], *x.shape[1:]))
        z = jnp.tensordot(condition["latent"], weights, 1)
        return jnp.tanh(x + z - 0.1 * label[:, None, None, None])


class ToyCritic(nn.Module):
    """sum tanh(u x_s + w x_t + 0.2 k), whose logits are recorded."""

    @nn.compact
    def __call__(self, x_s, x_t, label):
        u, w = (self.param(name, nn.initializers.zeros, x_s.shape[1:]) for name in ("u", "w"))
        return jnp.tanh(u[None] * x_s + w[None] * x_t + 0.2 * label[:, None, None, None]).sum((1, 2, 3))


@pytest.fixture(scope="module")
def toy():
    """The recorded players."""
    chain = vp_chain(long_step_betas(4))
    system = Adversarial((2, 2, 2), (2, 2, 2), chain, ToyGenerator(), ToyCritic(), 5, penalty_every=1)
    g = golden("losses")
    return system, {"generator": {"W": golden("chain")["W"]}, "critic": {"u": g["u"], "w": g["w"]}}


@pytest.mark.parametrize("name", ["vp2", "vp4", "vp8", "geometric4"])
def test_the_coefficients_are_the_official_ones(name):
    """Of t = k / N at which x_s and x_t lie; the official table's first entry is the variance that it drops."""
    g = golden(name)
    steps = len(g["t"]) - 1
    betas = long_step_betas(steps) if name.startswith("vp") else g["betas"][1:]
    assert relative_error(betas, g["betas"][1:]) < TOLERANCE
    chain = vp_chain(betas)
    s, t = jnp.arange(steps) / steps, (1 + jnp.arange(steps)) / steps
    a, b = transition(chain, s, t)
    large = log_variances(chain, s, t)[0]
    one = jnp.ones(steps)
    of_x0, of_x = posterior_mean(chain, 0 * one, one, s, t), posterior_mean(chain, one, 0 * one, s, t)
    found = {
        "a_s": a, "sigmas": b, "alphas_cumprod": chain.alpha(t) ** 2, "posterior_variance": jnp.exp(large),
        "posterior_mean_coef1": of_x0, "posterior_mean_coef2": of_x,
    }  # fmt: skip
    for key, value in found.items():
        assert relative_error(value, g[key][-steps:]) < TOLERANCE, key
    for key, value in {"a_s_cum": chain.alpha(s), "sigmas_cum": chain.sigma(s)}.items():
        np.testing.assert_allclose(value, g[key][:-1], atol=TOLERANCE, err_msg=key)
    assert float(large[0]) == -np.inf  # where the official code has -46 and leaves the noise out
    np.testing.assert_allclose(large[1:], g["posterior_log_variance_clipped"][1:], rtol=TOLERANCE, atol=1e-6)


def test_the_grid_is_cut_out_of_the_vp_sde():
    """alpha_t / alpha_s of its times from 1e-3 to 1."""
    t, chain = np.linspace(1e-3, 1, 6), vp_chain(long_step_betas(5, 0.2, 10.0))
    expected = np.diff(-0.5 * (0.2 * t + 0.5 * 9.8 * t**2))
    nodes = jnp.arange(6) / 5
    np.testing.assert_allclose(np.diff(np.log(chain.alpha(nodes))), expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.log(vp(0.2, 10.0).alpha(1.0)), jnp.log(chain.alpha(1.0)), atol=1e-3)


def test_pairs_and_posterior_are_the_official_ones(toy):
    system, _ = toy
    g, p, (s, t) = golden("pairs"), golden("posterior"), ends()
    x_s, x_t = pair(system.process, g["x0"], s, t, g["noise"], g["noise_next"])
    assert relative_error(x_s, g["x_t"]) < TOLERANCE and relative_error(x_t, g["x_t_plus_1"]) < TOLERANCE
    given = (g["x_t_plus_1"], p["x0_predicted"], s, t, p["noise"])
    assert relative_error(posterior_sample(system.process, *given), p["x_t"]) < TOLERANCE


def ends():
    t = golden("pairs")["t"]
    return jnp.float32(t / 4), jnp.float32((t + 1) / 4)


def test_the_chain_is_the_official_one(toy):
    system, params = toy
    g, step = golden("chain"), jax.jit(system.step(params))
    x = g["x_T"]
    for i in range(4):
        x = step(x, jnp.full(len(x), 4.0 - i), g["z"][i], g["noise"][i])
    assert relative_error(x, g["x_0"]) < TOLERANCE


def test_losses_and_penalty_are_the_official_ones(toy):
    """Of the recorded pairs and posterior draws; both losses summed, as each is one player's alone."""
    system, params = toy
    g, pairs, k = golden("losses"), golden("pairs"), jnp.float32(golden("pairs")["t"] + 1)
    fake = golden("posterior")["x_t"]
    logits = system.logits(params)
    assert relative_error(logits(pairs["x_t"], pairs["x_t_plus_1"], k), g["real"]) < TOLERANCE
    assert relative_error(logits(fake, pairs["x_t_plus_1"], k), g["fake"]) < TOLERANCE
    loss, terms = system.judged(params, VIEW, pairs["x_t"], fake, pairs["x_t_plus_1"], k)
    expected = {"critic": g["d_real"] + g["d_fake"], "generator": g["g"], "r1": g["r1_gamma_0.05"]}
    for name, value in expected.items():
        assert relative_error(terms[name].mean(), value) < TOLERANCE, name
    assert relative_error(loss.mean(), sum(expected.values())) < TOLERANCE
    right = (np.mean(g["real"] > 0) + np.mean(g["fake"] < 0)) / 2
    assert float(terms["accuracy"].mean()) == right


def tree(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


@pytest.fixture(scope="module")
def players():
    return of_players()


def of_players():
    """Perceptrons of the plane; their losses of eight examples, compiled once for all updates."""
    system = plane.system(penalty=0.5, penalty_every=3)
    params = jax.tree.map(lambda p: p.astype(float), system.init(root_key(0), {}))
    keys, x0 = example_keys(root_key(1), positions(0, 8)), jax.random.normal(jax.random.key(2), (8, 2))
    u = jnp.arange(8) / 8

    def mean(params, step, training=True):
        loss, terms = system.losses(params, View(step, {}, {}), keys, x0, {}, u, training)
        return loss.mean(), {name: term.mean() for name, term in terms.items()}

    at = {word: quick_jit(jax.value_and_grad(partial(mean, training=word), has_aux=True)) for word in (True, False)}
    return system, params, lambda step, training=True: at[training](params, jnp.int32(step)), (keys, x0, u)


def test_every_player_meets_only_its_own_terms():
    """Against gradients of one's loss with the other's parameters bound; in float64, where rounding is far below."""
    with jax.enable_x64(True):
        system, params, at, (keys, x0, u) = of_players()
        (_, terms), grads = at(1)
        view = View(jnp.int32(1), {}, {})

        def term(own, part):
            return system.losses({**params, part: own}, view, keys, x0, {}, u)[1][part].mean()

        for part in system.parts:
            alone = quick_jit(jax.grad(partial(term, part=part)))(params[part])
            np.testing.assert_allclose(tree(grads[part]), tree(alone), rtol=1e-9, atol=1e-12)
        assert terms["r1"] == 0


def test_the_penalty_is_lazy_and_is_the_critics_alone(players):
    """In every third update."""
    at = players[2]
    penalties = [float(at(step)[0][1]["r1"]) for step in range(5)]
    assert penalties[0] == penalties[3] > 0 and penalties[1] == penalties[2] == penalties[4] == 0
    np.testing.assert_array_equal(tree(at(0)[1]["generator"]), tree(at(1)[1]["generator"]))
    assert np.abs(tree(at(0)[1]["critic"]) - tree(at(1)[1]["critic"])).max() > 1e-4
    assert at(0, False)[0][1]["r1"] == 0
    assert at(0)[0][0] == pytest.approx(float(sum(at(0)[0][1][name] for name in ("critic", "generator", "r1"))))


def test_a_rescaled_penalty_is_as_of_all_updates():
    chain, given = vp_chain(long_step_betas(2)), (np.ones((4, 3)), jnp.zeros((4, 3)), jnp.ones(4))

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x_s, x_t, label):
            return x_s @ self.param("w", nn.initializers.ones, (3,))

    for rescaled, factor in ((False, 1), (True, 7)):
        system = Adversarial((3,), (3,), chain, plane.Generator(), Linear(), 2, 0.3, 7, rescaled)
        params = {"generator": {}, "critic": {"w": jnp.array([1.0, -2.0, 0.5])}}
        found = system.judged(params, VIEW, jnp.asarray(given[0], jnp.float32), given[1], *given[1:])[1]["r1"]
        np.testing.assert_allclose(found, factor * 0.15 * 5.25, rtol=1e-6)


def test_an_example_and_a_sample_depend_on_nothing_else(players):
    """Bitwise, of one batch size."""
    system, params, _, (keys, x0, u) = players
    losses = quick_jit(lambda keys, x0, u: system.losses(params, VIEW, keys, x0, {}, u)[0])
    draw = quick_jit(lambda keys: system.draw(params, keys, {}))
    mine = losses(keys, x0, u), draw(keys).x
    other = jnp.arange(8).at[1:].set(jnp.arange(7, 0, -1))
    turned = losses(keys[other], x0[other], u[other]), draw(keys[other]).x
    for one, two in zip(mine, turned):
        np.testing.assert_array_equal(one[np.asarray(other)], two)
    assert len(set(np.asarray(mine[0]).tolist())) == 8
    assert int(draw(keys).evaluations) == 4


WEIGHTS, POINTS = np.array([0.3, 0.7]), np.array([-1.0, 1.0])


def test_exact_draws_of_x_0_make_the_chain_exact_and_its_mean_does_not(float64):
    """Quadrature over four steps of a law of two points, against the recorded oracle: densities at t = 1/4, and x_0."""
    g = {k.removeprefix("ddgan__"): v for k, v in load("oracles", "systems").items() if k.startswith("ddgan__")}
    sde, x = vp(), np.linspace(-7, 7, 2801)
    width = x[1] - x[0]
    normal = lambda mean, std: np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))

    def likely(t):
        """Weights times densities of x_t given either point [2, X]."""
        t = jnp.float64(t)
        return WEIGHTS[:, None] * normal(np.asarray(sde.alpha(t)) * POINTS[:, None], np.asarray(sde.sigma(t)))

    exact = gaussian = likely(1.0).sum(0)
    for t, s in zip(g["times"][:-1], g["times"][1:]):
        of_x0 = likely(t) / likely(t).sum(0)
        std = np.exp(0.5 * np.asarray(log_variances(sde, s, t)[0]))
        mean = lambda x0, s=s, t=t: np.asarray(posterior_mean(sde, jnp.asarray(x), jnp.asarray(x0), s, t))[:, None]
        exact = width * sum((exact * p) @ normal(mean(np.full_like(x, c)), std) for p, c in zip(of_x0, POINTS))
        gaussian = width * gaussian @ normal(mean(POINTS @ of_x0), std)
    true = likely(0.25)
    apart = lambda density: 0.5 * width * np.abs(density - true.sum(0)).sum()
    of_x0 = true / true.sum(0)
    assert apart(exact) < 1e-11 and g["tv_exact"] < 1e-11
    assert apart(gaussian) == pytest.approx(float(g["tv_gaussian"]), rel=1e-5)
    assert width * exact @ of_x0[1] == pytest.approx(float(g["final_weight_exact"]), rel=1e-9)
    assert width * gaussian @ np.abs(POINTS @ of_x0) == pytest.approx(float(g["final_meanabs_gaussian"]), rel=1e-5)
    np.testing.assert_allclose(g["optimum_D_G_loss"], [2 * np.log(2), np.log(2)], rtol=1e-8)


class Bayes(nn.Module):
    """x_0 of the two points drawn from its law given x_t, by the quantile that z is of."""

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None, condition: Any = None):
        chain = vp_chain(long_step_betas(4))
        alpha, std = chain.marginal(jnp.ones(len(x)), (label + 1) / 4)
        densities = [jnp.exp(-0.5 * ((x[:, 0] - alpha * c) / std) ** 2) * w for c, w in zip(POINTS, WEIGHTS)]
        low = densities[0] / sum(densities)
        below = jax.scipy.stats.norm.cdf(condition["latent"][:, 0]) < low
        return jnp.where(below, POINTS[0], POINTS[1])[:, None].astype(x.dtype)


class Undecided(nn.Module):
    """No logit but 0."""

    @nn.compact
    def __call__(self, x_s, x_t, label):
        return jnp.zeros(len(x_s))


def test_a_generator_by_bayes_rule_draws_the_data_and_is_at_the_equilibrium():
    """20,000 samples; and critic and generator at 2 ln 2 and ln 2 where no critic can tell."""
    system = Adversarial((1,), (1,), vp_chain(long_step_betas(4)), Bayes(), Undecided(), 1, penalty=0.0)
    params = {"generator": {}, "critic": {}}
    keys = example_keys(root_key(0), positions(0, 20_000))
    x = np.asarray(quick_jit(lambda keys: system.draw(params, keys, {}).x)(keys))
    assert set(np.unique(x).tolist()) == {-1.0, 1.0}
    assert np.mean(x > 0) == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / 20_000))
    losses = quick_jit(lambda keys: system.losses(params, VIEW, keys, jnp.ones((8, 1)), {}, jnp.arange(8) / 8))
    _, terms = losses(keys[:8])
    np.testing.assert_allclose(terms["critic"], 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(terms["generator"], np.log(2), rtol=1e-6)


def test_it_has_no_score(players):
    system, params, _, _ = players
    with pytest.raises(UsageError, match="has no score, so it has no likelihood and takes no guidance"):
        system.score(params)
    assert NO_SCORE.endswith("for these") and system.sde() is system.process
