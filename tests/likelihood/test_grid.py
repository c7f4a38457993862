"""The likelihood on a grid: of fourth order, the adaptive solver's in the limit, for every SDE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import grid as grids
from score_sde.likelihood import log_likelihood_given, log_likelihood_on
from score_sde.objectives.variational import bits_per_dim
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores import divergence
from score_sde.solvers import RK45
from tests.likelihood.test_ode import T_MIN
from tests.oracles import CONTINUOUS, FLOWING, bimodal, correlated

KEYS = example_keys(root_key(3), positions(0, 16))


def errors(name, data, counts):
    """Root mean square bits per dimension off a solve to 1e-9 for grids of so many nodes, then for one by the rates."""
    sde, x0 = FLOWING[name], jnp.asarray(data.sample(KEYS), "float64")
    estimate, score = divergence.Exact().estimate(KEYS, x0), data.score(sde)
    tight = jax.jit(
        lambda x0: log_likelihood_given(estimate, score, sde, x0, solver=RK45(1e-9, 1e-9), t_min=T_MIN[name])
    )
    on, reference, found = jax.jit(lambda x0, g: log_likelihood_on(estimate, score, sde, x0, g)), tight(x0), []

    def off(grid):
        ours, rates = on(x0, grid._replace(times=grid.times.astype(float)))
        assert int(ours.evaluations) == grid.nodes
        error = bits_per_dim(ours.log_prob[:, 0] - reference.log_prob[:, 0], x0)
        found.append(float(jnp.sqrt(jnp.mean(error**2))))
        return ours, rates

    for count in counts:
        grid = grids.steps(sde, T_MIN[name], count)
        ours, rates = off(grid)
    places = np.asarray(0.5 * sde.log_snr(jnp.asarray(grid.times[:count], "float64")))
    off(grids.steps(sde, T_MIN[name], 48, places, np.asarray(rates[:count]).reshape(count, -1)))
    assert not np.asarray(rates[count:]).any()
    assert float(jnp.abs(ours.z - reference.z).max()) < 1e-4 * float(jnp.abs(reference.z).max())
    return found


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_order_on_gaussian_data(float64, name):
    half, whole, by_rates = errors(name, correlated(), (96, 192))
    assert half / whole > 2**3.2 and whole < 1e-5
    assert by_rates < 2e-3


@pytest.mark.parametrize("name", [*CONTINUOUS, "straight"])
def test_a_mixture(float64, name):
    first, *_, last, by_rates = errors(name, bimodal(), (48, 96, 192))
    assert last < 2e-4 and last < first / 20 and by_rates < 2e-3


def test_a_grid_spans_the_times_and_rises():
    sde = CONTINUOUS["vp"]
    rates = np.random.default_rng(0).normal(size=(grids.SURVEY, 8))
    first = grids.steps(sde, 1e-5, grids.SURVEY)
    places = np.asarray(0.5 * sde.log_snr(first.times[: grids.SURVEY]))
    for found in (first, grids.steps(sde, 1e-5, 40, places, rates), grids.steps(sde, 1e-5, 40, places, np.nan * rates)):
        times = found.times[: found.nodes]
        assert (np.diff(times) > 0).all() and times[0] == np.float32(1e-5) and times[-1] == sde.T
        assert len(found.times) == grids.MOST + 1 and (found.times[found.nodes :] == sde.T).all()
    assert grids.of(first.times[: grids.SURVEY]).nodes == grids.SURVEY
