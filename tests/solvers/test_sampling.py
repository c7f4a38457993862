"""The sampler as a whole: samples as functions of their key, honest counts, one compilation, grids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import Purpose, child, example_keys, positions, root_key
from score_sde.sde import SDE, VP
from score_sde.solvers import (
    RK45,
    AnnealedLangevin,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    grids,
)
from score_sde.solvers.sampling import Samples, sample, trajectory
from tests.oracles import CONTINUOUS, SDES, T_MIN, bimodal

SHAPE = (2, 2, 1)
DATA = bimodal()


def keys(first: int, count: int):
    return example_keys(root_key(0), positions(first, count))


def draw(solver, batch, *, sde: SDE = SDES["vp"], steps: int = 20, **options) -> Samples:
    grid = grids.uniform(sde, 1e-3, steps)
    run = lambda k: sample(k, DATA.score(sde), sde, SHAPE, solver=solver, times=grid, **options)
    return jax.jit(run)(batch)


@pytest.mark.parametrize("solver", [EulerMaruyama(), PredictorCorrector(ReverseDiffusion(), Langevin(steps=2))])
def test_sample_k_depends_on_its_own_key_alone(solver):
    """Bitwise at one batch size, whoever the companions are; to float tolerance at another."""
    whole = draw(solver, keys(0, 8)).x
    shuffled = draw(solver, keys(0, 8)[jnp.array([5, 2, 7, 0, 1, 3, 4, 6])]).x
    np.testing.assert_array_equal(shuffled[0], whole[5])
    np.testing.assert_allclose(draw(solver, keys(5, 2)).x, whole[5:7], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("solver", "per_step"),
    [(EulerMaruyama(), 1), (PredictorCorrector(ReverseDiffusion(), AnnealedLangevin(steps=3)), 4)],
)
@pytest.mark.parametrize("denoise", [False, True])
def test_evaluations_are_those_that_happen(solver, per_step, denoise):
    """Counted by a callback in the score."""
    calls = []

    def score(x, t):
        jax.debug.callback(lambda _: calls.append(1), t)
        return -x

    sde, grid = SDES["vp"], grids.uniform(SDES["vp"], 1e-3, 5)
    reported = sample(keys(0, 2), score, sde, SHAPE, solver=solver, times=grid, denoise=denoise).evaluations
    jax.effects_barrier()
    assert int(reported) == len(calls) == 5 * per_step + denoise


@pytest.mark.parametrize("per_sample", [False, True])
def test_adaptive_evaluations_are_those_that_happen(per_sample):
    """The batch's, or those of its slowest sample."""
    calls = []

    def score(x, t):
        jax.debug.callback(lambda _: calls.append(1), t)
        return -x

    sde, grid = SDES["vp"], grids.uniform(SDES["vp"], 1e-3, 1)
    reported = sample(keys(0, 2), score, sde, SHAPE, solver=RK45(1e-3, 1e-3, per_sample), times=grid).evaluations
    jax.effects_barrier()
    assert reported.shape == (2,) * per_sample
    assert int(reported.max()) == len(calls)


def test_one_compilation_serves_every_key_parameter_and_sde_number():
    traces = []

    @jax.jit
    def run(batch, sde, strength):
        traces.append(1)
        grid = grids.log_snr(sde, 1e-3, 10)
        return sample(batch, lambda x, t: -strength * x, sde, SHAPE, solver=EulerMaruyama(), times=grid).x

    first = run(keys(0, 2), VP(), 1.0)
    second = run(keys(2, 2), VP(0.2, 10.0), 0.9)
    assert len(traces) == 1
    assert np.abs(first - second).max() > 1e-3


def test_the_constraint_is_applied_after_every_step_and_refused_by_adaptive_solvers():
    pin = lambda keys, x, s: x.at[:, 0].set(0.25)
    pinned = draw(EulerMaruyama(), keys(0, 2), denoise=False, constrain=pin).x
    np.testing.assert_array_equal(pinned[:, 0], 0.25)
    with pytest.raises(ValueError, match="adaptive"):
        draw(RK45(), keys(0, 2), constrain=pin)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("grid", [grids.uniform, grids.quadratic, grids.log_snr])
def test_grids_run_from_T_to_t_min(name, grid):
    sde, t_min = CONTINUOUS[name], T_MIN[name]
    nodes = np.asarray(grid(sde, t_min, 50))
    assert len(nodes) == 51
    np.testing.assert_allclose(nodes[[0, -1]], [sde.T, t_min], rtol=1e-6)
    assert (np.diff(nodes) < 0).all()


def test_grids_are_equally_spaced_in_what_they_say():
    sde = SDES["subvp"]
    np.testing.assert_allclose(np.diff(np.asarray(grids.uniform(sde, 1e-3, 4))), -(1 - 1e-3) / 4, rtol=1e-5)
    steps = np.diff(np.sqrt(np.asarray(grids.quadratic(sde, 1e-3, 4))))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-5)
    steps = np.diff(np.asarray(sde.log_snr(grids.log_snr(sde, 1e-3, 8))))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    np.testing.assert_allclose(grids.uniform(SDES["ve"], 1e-5, 6), grids.log_snr(SDES["ve"], 1e-5, 6), rtol=1e-4)


@pytest.mark.usefixtures("optimised")
def test_a_trajectory_ends_where_sampling_does():
    """Bitwise; and it begins with the prior's draw."""
    solver = PredictorCorrector(EulerMaruyama(), AnnealedLangevin())
    sde, grid = SDES["vp"], grids.uniform(SDES["vp"], 1e-3, 6)
    walk = lambda k: trajectory(k, DATA.score(sde), sde, SHAPE, solver=solver, times=grid)
    states = jax.jit(walk)(keys(0, 3))
    assert states.shape == (7, 3, *SHAPE)
    np.testing.assert_array_equal(states[-1], draw(solver, keys(0, 3), steps=6, denoise=False).x)
    np.testing.assert_array_equal(states[0], sde.prior_sample(child(keys(0, 3), Purpose.PRIOR), SHAPE))


def test_bad_grids_are_refused():
    with pytest.raises(UsageError, match="num_steps=0"):
        grids.uniform(SDES["vp"], 1e-3, 0)
    with pytest.raises(UsageError, match="t_min=0"):
        grids.log_snr(SDES["vp"], 0, 5)
