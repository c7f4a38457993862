"""Adaptive steps on the reverse-time SDE: rejections keep the law, one path whatever the tolerance, samples apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import child, example_keys, normal, positions, root_key
from score_sde.sde import one_minus_exp
from score_sde.solvers import AdaptiveSDE, GottaGoFast, adaptive_sde
from score_sde.typing import expand
from tests.oracles import FLOWING, SDES, T_MIN, bimodal, recorded_law

N = 4096


def fresh_noise(keys, shape, level, index, decay):
    """What the published rule does: a step that was rejected and halved meets new noise."""
    std = jnp.sqrt(one_minus_exp(2 * decay / (1 << level)))
    z = normal(jax.vmap(jax.random.fold_in)(keys, (1 << level) + index), shape)
    return expand(std, z) * z


@pytest.mark.parametrize("consistent", [True, False])
def test_rejections_keep_the_law(monkeypatch, consistent):
    """Of 4096 x 6 values of N(0.3, 0.25), with a third of the steps rejected: 3 standard errors of Monte Carlo.

    With new noise after each rejection the same scheme fails this.
    """
    monkeypatch.setattr(adaptive_sde, "GROWTH", 0.99)
    if not consistent:
        monkeypatch.setattr(adaptive_sde, "decayed_increment", fresh_noise)
    sde, law, solver = SDES["vp"], recorded_law("gauss"), AdaptiveSDE(0.005, 0.002)
    keys = example_keys(root_key(0), positions(0, N))
    x = normal(child(keys, 1), (6,))
    end = jax.jit(lambda keys, x: solver.run(keys, sde, law.score(sde), x, sde.T, 1e-3))(keys, x)
    attempts = np.sum(end.evaluations) - N
    assert 0.3 < np.sum(end.rejections) / attempts < 0.5
    std = np.sqrt(0.25 * sde.alpha(1e-3) ** 2 + sde.sigma(1e-3) ** 2)
    error = np.abs([(np.mean(end.x) - 0.3) / std, (np.std(end.x) / std - 1) * np.sqrt(2)]) * np.sqrt(6 * N)
    assert (error.max() < 3) == consistent


@pytest.mark.parametrize(("sde_name", "churn"), [("vp", 0.0), ("vp", 1.0), ("ve", 0.5), ("straight", 1.0)])
def test_lower_tolerances_converge_on_one_path(float64, sde_name, churn):
    """The same keys are the same Brownian path, solved closer; without noise, on the exact flow.

    The error is five times smaller or more at a tenth of the tolerance, against a solve at a tenth of that.
    """
    sde, law, s = FLOWING[sde_name], recorded_law("gauss"), T_MIN[sde_name]
    keys = example_keys(root_key(0), positions(0, 64))
    x = normal(child(keys, 1), (6,)) * sde.prior_std
    run = jax.jit(lambda tol: AdaptiveSDE(tol, tol, churn).run(keys, sde, law.score(sde), x, jnp.float64(sde.T), s).x)
    ends = [run(tolerance) for tolerance in (1e-2, 1e-3, 1e-4)]
    exact = ends[-1] if churn else law.flow(sde)(x, sde.T, s)
    errors = [np.sqrt(np.mean((end - exact) ** 2)) for end in ends[:2]]
    assert errors[0] < 0.03
    assert errors[0] > 5 * errors[1]


@pytest.mark.parametrize("solver", [AdaptiveSDE(), GottaGoFast()], ids=lambda s: type(s).__name__)
def test_a_sample_depends_on_no_companion_and_fails_alone(solver):
    """Bitwise: in another order, and beside one whose score is not finite; as many rounds as the slowest needs."""
    sde, score, rounds = SDES["vp"], bimodal().score(SDES["vp"]), []

    def breakable(x, t):
        jax.debug.callback(lambda _: rounds.append(1), t[0])
        return jnp.where(expand((t < 0.3) & (x[:, 0, 0, 0] > 1e3), x), jnp.nan, score(x, t))

    keys = example_keys(root_key(0), positions(0, 8))
    solve = jax.jit(lambda keys, x: solver.solve(keys, sde, breakable, x, sde.T, 1e-3))
    x = normal(child(keys, 1), (2, 2, 1))
    whole, counts = solve(keys, x)
    jax.effects_barrier()
    assert len(rounds) == counts.max() > counts.min()
    order = jnp.array([5, 2, 7, 0, 1, 3, 4, 6])
    shuffled, recounted = solve(keys[order], x[order])
    np.testing.assert_array_equal(shuffled, whole[order])
    np.testing.assert_array_equal(recounted, counts[order])
    beside, counted = solve(keys, x.at[0].set(1e6))
    np.testing.assert_array_equal(beside[1:], whole[1:])
    np.testing.assert_array_equal(counted[1:], counts[1:])
    assert np.isnan(beside[0]).all()
