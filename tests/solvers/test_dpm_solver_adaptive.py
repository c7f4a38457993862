"""DPM-Solvers that choose their own steps: the pair they are made of, its error, and each sample on its own."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.sde import denoiser
from score_sde.solvers import Data, DPMSolverAdaptive, DPMSolverSinglestep, LimitedGrowth, Noise
from score_sde.solvers.dpm_solver_adaptive import Proportional
from score_sde.solvers.exponential import node
from score_sde.typing import expand
from tests.golden_files import load
from tests.oracles import CONTINUOUS, SDES, T_MIN, bimodal, recorded_law
from tests.solvers.yardstick import PROBLEMS


def draws(count, sde, shape=(2, 2, 1)):
    return normal(example_keys(root_key(1), positions(0, count)), shape) * sde.prior_std


@pytest.mark.parametrize("prediction", [Noise(), Data()])
def test_the_lower_order_is_the_method_of_one_order_less(float64, prediction):
    """Of order 2 with its time in between a third of the way, as DPM-Solver-3 has it."""
    sde, x = SDES["vp"], draws(4, SDES["vp"])
    score, ends = bimodal().score(sde), (jnp.asarray(0.7), jnp.asarray(0.5))
    for order, lower in ((2, DPMSolverSinglestep(1, prediction)), (3, DPMSolverSinglestep(2, prediction, (1 / 3,)))):
        pair = DPMSolverSinglestep(order, prediction).pair(sde, score, x, *(node(sde, t) for t in ends))
        np.testing.assert_array_equal(pair[0], lower.update(sde, score, x, *ends))
        np.testing.assert_array_equal(pair[1], DPMSolverSinglestep(order, prediction).update(sde, score, x, *ends))


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("sde_name", CONTINUOUS)
def test_lower_tolerances_converge_on_the_exact_flow(float64, sde_name, order):
    """Errors of the tolerance's size, at most ten times as large; the steps grow with its root of the order."""
    sde, law, s = CONTINUOUS[sde_name], recorded_law("gauss"), T_MIN[sde_name]
    x = draws(8, sde, (6,))
    solve = jax.jit(
        lambda tol: DPMSolverAdaptive(order, tol, tol, per_sample=True).solve(None, sde, law.score(sde), x, sde.T, s)
    )
    exact, counts = law.flow(sde)(x, sde.T, s), []
    for tolerance in (1e-2, 1e-5):
        end, evaluations = solve(tolerance)
        assert np.sqrt(np.mean((end - exact) ** 2)) < 10 * tolerance
        counts.append(np.asarray(evaluations))
    assert (counts[1] < 1000 ** (1 / order) * counts[0]).all()
    assert (counts[1] % order == 0).all()


@pytest.mark.parametrize("control", [Proportional(), LimitedGrowth()])
def test_each_sample_is_solved_as_if_it_were_alone(float64, control):
    """What a solve of a batch of one gives, by its norm and with as many evaluations."""
    sde, score, x = SDES["vp"], bimodal().score(SDES["vp"]), draws(6, SDES["vp"])
    solve = lambda x, per_sample: DPMSolverAdaptive(3, 1e-3, 1e-3, per_sample, control=control).solve(
        None, sde, score, x, sde.T, 1e-3
    )
    together, counts = jax.jit(lambda x: solve(x, True))(x)
    alone = jax.jit(lambda x: solve(x, False))
    for k in range(6):
        one, count = alone(x[k : k + 1])
        np.testing.assert_allclose(together[k], one[0], rtol=1e-9, atol=1e-9)
        assert int(count) == int(counts[k])
    assert len(set(np.asarray(counts).tolist())) > 1


def test_a_sample_on_its_own_needs_a_longest_step(float64):
    """From sigma 80, where 5 % are 4, samples leap to the end without one, and end where they should with one of 1."""
    p, g = PROBLEMS["edm"], load("yardstick", "solvers")
    score, x = recorded_law("gauss").score(p.sde), jnp.asarray(80 * g["gauss__unit_x"])
    solve = jax.jit(
        lambda x, longest: DPMSolverAdaptive(3, per_sample=True, longest=longest).solve(
            None, p.sde, score, x, p.sde.T, p.t_min
        )
    )
    (leaping, _), (limited, evaluations) = (solve(x, longest) for longest in (math.inf, 1.0))
    rms = lambda end: np.sqrt(np.mean((denoiser(p.sde, score)(end, p.t_min) - g["gauss__ref_edm0"]) ** 2))
    assert rms(leaping) > 5
    assert rms(limited) < 0.002
    assert np.mean(evaluations) < 40


def test_a_sample_depends_on_no_companion_and_fails_alone():
    """Bitwise: in another order, and beside one whose score is not finite; as many rounds as the slowest needs."""
    sde, score, rounds = SDES["vp"], bimodal().score(SDES["vp"]), []

    def breakable(x, t):
        jax.debug.callback(lambda _: rounds.append(1), t[0])
        return jnp.where(expand((t < 0.3) & (x[:, 0, 0, 0] > 1e3), x), jnp.nan, score(x, t))

    x = draws(8, sde)
    solve = jax.jit(
        lambda x: DPMSolverAdaptive(2, 1e-3, 1e-3, per_sample=True).solve(None, sde, breakable, x, sde.T, 1e-3)
    )
    whole, counts = solve(x)
    jax.effects_barrier()
    assert len(rounds) == counts.max() > counts.min()
    order = jnp.array([5, 2, 7, 0, 1, 3, 4, 6])
    shuffled, recounted = solve(x[order])
    np.testing.assert_array_equal(shuffled, whole[order])
    np.testing.assert_array_equal(recounted, counts[order])
    beside, counted = solve(x.at[0].set(1e6))
    np.testing.assert_array_equal(beside[1:], whole[1:])
    np.testing.assert_array_equal(counted[1:], counts[1:])
    assert np.isnan(beside[0]).all()


def test_a_batch_with_one_norm_fails_together():
    sde = SDES["vp"]
    broken = lambda x, t: jnp.full_like(x, jnp.nan)
    x, evaluations = jax.jit(lambda x: DPMSolverAdaptive().solve(None, sde, broken, x, sde.T, 1e-3))(draws(2, sde))
    assert np.isnan(x).all()
    assert evaluations.shape == ()
