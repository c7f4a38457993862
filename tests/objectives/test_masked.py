"""Masked diffusion against recorded arrays of its sources, in float64, and what its weights are by calculus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.objectives import masked
from tests.golden_files import load

pytestmark = pytest.mark.usefixtures("float64")

EPS = 1e-3
SCHEDULES = {
    "loglinear": masked.loglinear(EPS),
    "cosine": masked.cosine(EPS),
    "cosinesqr": masked.cosine_squared(EPS),
    "geometric": masked.geometric(1e-3, 1.0),
    "linear": masked.linear(0.0, 10.0),
}


@pytest.fixture(scope="module")
def golden():
    return load("discrete", "systems")


@pytest.fixture
def tokens(golden):
    """x_0, x_t, the network's log-probabilities and m(t) of the recorded losses."""
    x0, x = jnp.asarray(golden["x0"], jnp.int32), jnp.asarray(golden["x_t"], jnp.int32)
    log_p = masked.denoised(jnp.asarray(golden["logits"][..., :-1]), x)
    return x0, x, log_p, masked.loglinear(EPS).masked(jnp.asarray(golden["loss_t"]))


def every_token(log_p, x0):
    """-log p(x_0_i) [B, L], each token on its own."""
    alone = lambda log_p, x0: masked.cross_entropy(log_p[:, None], x0[:, None])
    return jax.vmap(alone, 1, 1)(log_p, x0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name, golden):
    sigma, rate = masked.noise(SCHEDULES[name], jnp.asarray(golden["t"]))
    np.testing.assert_allclose(sigma, golden[f"noise_{name}__sigma"], rtol=1e-9)
    np.testing.assert_allclose(rate, golden[f"noise_{name}__dsigma"], rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_weight_is_the_derivative_of_log_m(name):
    schedule, t = SCHEDULES[name], jnp.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(
        schedule.weight(t), jax.vmap(jax.grad(lambda t: jnp.log(schedule.masked(t))))(t), rtol=1e-9
    )


def test_masks_and_what_is_left_of_the_network(golden, tokens):
    """The recorded x_t by the recorded draws; the mask and whatever a token is not have no probability."""
    x0, x, log_p, m = tokens
    np.testing.assert_array_equal(masked.mask(x0, jnp.asarray(golden["u"]) < m[:, None], 6), x)
    recorded = golden["subs__log_p"]  # where -inf is -1e6
    np.testing.assert_allclose(jnp.maximum(log_p, -1e6), recorded[..., :-1], rtol=1e-12, atol=1e-12)
    assert (recorded[..., -1] < -9e5).all()


def test_losses_in_continuous_time_and_in_steps(golden, tokens):
    x0, _, log_p, _ = tokens
    t = jnp.asarray(golden["loss_t"])
    own = every_token(log_p, x0)
    np.testing.assert_allclose(
        masked.loglinear(EPS).weight(t)[:, None] * own, golden["subs__loss_continuous"], rtol=1e-9
    )
    for steps in (10, 1000):
        x = jnp.asarray(golden[f"d3pm_T{steps}__x_t"], jnp.int32)
        own = every_token(masked.denoised(jnp.asarray(golden["logits"][..., :-1]), x), x0)
        found_t, weight = masked.times(masked.loglinear(), t, 1e-5, steps)
        np.testing.assert_allclose(found_t, golden[f"d3pm_T{steps}__t"], rtol=1e-12)
        for name in (f"subs_T{steps}__loss", f"d3pm_T{steps}_masked1__loss"):
            np.testing.assert_allclose(weight[:, None] * own, golden[name], rtol=1e-7, err_msg=name)


def test_steps_are_the_recorded_ones_the_ancestral_and_the_analytic(golden, tokens):
    """Of a masked token both have one law: unmasked with probability (m_t - m_s) / m_t, then the network's."""
    _, x, log_p, _ = tokens
    t = jnp.asarray(golden["loss_t"])
    schedule, s = masked.loglinear(EPS), t - float(golden["step__dt"])
    chance = masked.unmasking(schedule, t, s)[:, None, None]
    expected = np.asarray(jnp.concatenate([chance * jnp.exp(log_p), jnp.broadcast_to(1 - chance, (6, 8, 1))], -1))
    hidden = np.asarray(x) == 6
    recorded = golden["step__unnormalised_probs"]
    np.testing.assert_allclose(expected[hidden], (recorded / recorded.sum(-1, keepdims=True))[hidden], rtol=1e-9)
    np.testing.assert_allclose(expected[hidden], golden["step__analytic_probs"][hidden], rtol=1e-9)


def test_ratios_and_score_entropies(golden, tokens):
    x0, x, log_p, m = tokens
    ratios = masked.log_ratios(log_p, x, m)
    np.testing.assert_allclose(jnp.exp(ratios), golden["subs__score"], rtol=1e-9, atol=1e-300)
    _, rate = masked.noise(masked.loglinear(EPS), jnp.asarray(golden["loss_t"]))
    recorded = jnp.asarray(golden["sedd__log_score"])
    np.testing.assert_allclose(
        rate[:, None] * masked.score_entropy(recorded, x, x0, m), golden["sedd__loss"], rtol=1e-9
    )
    given = {name: jnp.asarray(golden[f"absorb__{name}"]) for name in ("x0", "x_t", "sigma", "log_score")}
    found = masked.score_entropy(given["log_score"], given["x_t"], given["x0"], -jnp.expm1(-given["sigma"]))
    np.testing.assert_allclose(found, golden["absorb__score_entropy"], rtol=1e-9)


def test_the_score_entropy_of_a_denoiser_is_the_bounds_integrand(tokens, golden):
    """sigma' times it is w(t) times the cross-entropy, whatever the denoiser."""
    x0, x, log_p, m = tokens
    _, rate = masked.noise(masked.loglinear(EPS), jnp.asarray(golden["loss_t"]))
    entropy = rate[:, None] * masked.score_entropy(masked.log_ratios(log_p, x, m), x, x0, m)
    np.testing.assert_allclose(entropy, golden["subs__loss_continuous"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("schedule", [masked.loglinear(), masked.cosine(), masked.cosine_squared()])
def test_times_of_steps_tend_to_those_of_continuous_time(schedule):
    u = jnp.linspace(0.05, 0.95, 20)
    (t, weight), (close, near) = masked.times(schedule, u, 1e-5), masked.times(schedule, u, 1e-5, 10**6)
    np.testing.assert_allclose(t, close, atol=2e-6)
    np.testing.assert_allclose(weight, near, rtol=1e-4)
    assert float(masked.unmasking(schedule, t, 0 * t).min()) == 1.0  # the last step leaves no mask
