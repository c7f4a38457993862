"""Adaptive Runge-Kutta, one step for the batch or one per sample: scipy's steps, and each sample on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from score_sde.experiment import build
from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.sde import reverse
from score_sde.solvers import RK45
from score_sde.typing import expand
from tests.golden_files import quick_jit, relative_error
from tests.oracles import FLOWING, SDES, T_MIN, bimodal
from tests.tiny import tiny_config

RTOLS = (1e-3, 1e-5, 1e-8)


def test_the_step_has_order_five(float64):
    """One forced step each over h, h/2: the local error of y' = cos(t) y falls by 2^6."""
    solver = RK45(rtol=1e3, atol=1e3)  # accepts any step
    drift = lambda x, t: jnp.cos(t) * x
    solve = jax.jit(lambda s: solver.integrate(drift, jnp.ones((1, 1)), jnp.float64(0.5), s)[0])
    errors = [abs(float(solve(0.5 + h)[0, 0]) / np.exp(np.sin(0.5 + h) - np.sin(0.5)) - 1) for h in (0.4, 0.2, 0.1)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 6, atol=0.35)


@pytest.mark.certification
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("sde_name", FLOWING)
def test_scipys_steps_are_taken(float64, sde_name, per_sample):
    """The same float64 drift: solve_ivp's number of evaluations and endpoint, of the batch or of each sample alone."""
    sde = FLOWING[sde_name]
    drift = reverse(sde, bimodal().score(sde), churn=0.0).drift
    x = normal(example_keys(root_key(1), positions(0, 4)), (2, 2, 1)) * sde.prior_std
    solve = jax.jit(lambda x, t, s, rtol: RK45(rtol, rtol, per_sample).integrate(drift, x, t, s))
    parts = x[:, None] if per_sample else x[None]
    compiled = jax.jit(drift)
    on_host = lambda t, y: np.asarray(compiled(jnp.asarray(y).reshape(parts.shape[1:]), t)).ravel()
    ways = [(sde.T, T_MIN[sde_name], rtol) for rtol in RTOLS] + [(T_MIN[sde_name], sde.T, RTOLS[1])]
    for t, s, rtol in ways:
        ours, evaluations = solve(x, t, s, rtol)
        for part, y, count in zip(parts, ours.reshape(parts.shape), np.atleast_1d(evaluations), strict=True):
            theirs = solve_ivp(on_host, (t, s), np.ravel(part), method="RK45", rtol=rtol, atol=rtol)
            assert count == theirs.nfev
            assert relative_error(np.ravel(y), theirs.y[:, -1]) < 1e-9


def test_a_rejected_step_is_survived_and_a_broken_drift_reported():
    sharp = lambda x, t: jnp.where(t > 0.5, 100.0, 0.0) * jnp.cos(100 * t) * jnp.ones_like(x)
    x, evaluations = RK45(1e-6, 1e-6).integrate(sharp, jnp.zeros((1, 1)), jnp.float32(0.0), jnp.float32(1.0))
    np.testing.assert_allclose(x[0, 0], np.sin(100) - np.sin(50), atol=1e-3)
    assert int(evaluations) > 100
    broken = lambda x, t: jnp.where(t > 0.5, jnp.nan, 1.0) * jnp.ones_like(x)
    x, _ = jax.jit(lambda x: RK45().integrate(broken, x, jnp.float32(0.0), jnp.float32(1.0)))(jnp.zeros((1, 1)))
    assert np.isnan(x).all()


def test_every_sample_has_its_own_interval():
    """dx/dt = x from t [B] to s [B], in either direction, and nowhere."""
    t, s = jnp.array([0.0, 1.0, 0.5, 0.2]), jnp.array([1.0, 0.0, 0.5, 0.3])
    x, evaluations = jax.jit(RK45(1e-6, 1e-6, per_sample=True).integrate, static_argnums=0)(
        lambda x, t: x, jnp.ones((4, 2)), t, s
    )
    np.testing.assert_allclose(x, np.exp(s - t)[:, None] * np.ones((1, 2)), rtol=1e-5)
    assert evaluations[2] == 2 < evaluations[3] < evaluations[0]


def test_a_sample_depends_on_no_companion_bitwise():
    """Through a network, whose last layer is no longer zero: the same bits and counts in another order."""
    experiment = build(tiny_config(sampling__solver="rk45", sampling__rtol=1e-3, sampling__atol=1e-3))
    random, keys = np.random.RandomState(0), example_keys(root_key(0), positions(0, 8))
    params = jax.tree.map(lambda p: p + 0.1 * random.randn(*p.shape).astype(p.dtype), experiment.init_params())
    draw = quick_jit(experiment.draw)
    whole = draw(params, keys)
    assert len(set(np.asarray(whole.evaluations))) > 1
    order = jnp.array([5, 2, 7, 0, 1, 3, 4, 6])
    shuffled = draw(params, keys[order])
    np.testing.assert_array_equal(shuffled.x, whole.x[order])
    np.testing.assert_array_equal(shuffled.evaluations, whole.evaluations[order])


def test_a_sample_that_fails_fails_alone():
    """Its companions end bitwise as beside another one, after as many evaluations; the loop ends when they do."""
    sde = SDES["vp"]
    score, rounds = bimodal().score(sde), []

    def drift(x, t):
        jax.debug.callback(lambda _: rounds.append(1), t[0])
        slow = reverse(sde, score, churn=0.0).drift(x, t)
        return jnp.where(expand((t < 0.5) & (x[:, 0, 0, 0] > 1e3), x), jnp.nan, slow)

    x = normal(example_keys(root_key(1), positions(0, 4)), (2, 2, 1))
    solve = jax.jit(lambda x: RK45(1e-4, 1e-4, per_sample=True).integrate(drift, x, sde.T, 1e-3))
    healthy, counts = solve(x)
    jax.effects_barrier()
    assert len(rounds) == counts.max()
    rounds.clear()
    beside, counted = solve(x.at[1].set(1e6))
    jax.effects_barrier()
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(beside[others], healthy[others])
    np.testing.assert_array_equal(counted[others], counts[others])
    assert np.isnan(beside[1]).all()
    assert len(rounds) == counted.max()
