"""Grids against recorded ones, and their defining properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import karras, vp
from score_sde.solvers import ExponentialAdams, grids, pilot
from tests.golden_files import load, relative_error
from tests.oracles import CONTINUOUS, T_MIN, recorded_law
from tests.solvers.yardstick import rms_error

EDM = karras()


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("sigmas_karras", lambda: grids.karras(EDM, 0.002, 9)),
        ("sigmas_karras_rho3_narrow", lambda: grids.karras(karras(10.0), 0.05, 9, 3.0)),
        ("sigmas_exponential", lambda: grids.log_snr(EDM, 0.002, 9)),
        ("sigmas_polyexponential_rho0.5", lambda: grids.log_snr(EDM, 0.002, 9, 0.5)),
        ("sigmas_polyexponential_rho1.0", lambda: grids.log_snr(EDM, 0.002, 9, 1.0)),
        ("sigmas_polyexponential_rho2.0", lambda: grids.log_snr(EDM, 0.002, 9, 2.0)),
        ("sigmas_vp", lambda: (lambda t: vp().sigma(t) / vp().alpha(t))(grids.uniform(vp(), 1e-3, 9))),
    ],
)
def test_k_diffusions_grids(float64, name, grid):
    assert relative_error(grid(), load("kdiffusion", "solvers")[name][:-1]) < 1e-6


@pytest.mark.parametrize(
    ("skip", "grid"), [("time_uniform", grids.uniform), ("time_quadratic", grids.quadratic), ("logSNR", grids.log_snr)]
)
def test_dpm_solvers_grids(float64, skip, grid):
    for n in (10, 20):
        assert relative_error(grid(vp(), 1e-3, n), load("dpm_solver", "solvers")[f"ts__multistep__{skip}__{n}"]) < 1e-6


def test_edms_discretised_levels(float64):
    """Improved DDPM's table, and the grid of its levels with EDM's ends."""
    g = load("edm_precond_loss", "solvers")
    table = grids.iddpm_levels()
    assert relative_error(np.append(table, 0.0)[::20], g["iddpm__u_every_20"]) < 1e-6
    recorded = load("edm_ablation", "solvers")["grid__net_sigmas"][2, 2]
    assert relative_error(grids.edm_levels(karras(81.0), 0.002, 9), recorded) < 1e-6


GRIDS = {
    "uniform": grids.uniform, "quadratic": grids.quadratic, "power": grids.power, "log_snr": grids.log_snr,
    "log_sigma": grids.log_sigma, "karras": grids.karras,
}  # fmt: skip
EVEN = {
    "uniform": lambda sde, t: t,
    "quadratic": lambda sde, t: t**0.5,
    "power": lambda sde, t: t ** (1 / 3),
    "log_snr": lambda sde, t: sde.log_snr(t),
    "log_sigma": lambda sde, t: jnp.log(sde.sigma(t)),
    "karras": lambda sde, t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7),
}
"""What is equally spaced in each grid."""


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_even_in_their_variable(float64, name, sde_name):
    sde, t_min = CONTINUOUS[sde_name], T_MIN[sde_name]
    grid = GRIDS[name](sde, t_min, 12)
    np.testing.assert_array_equal(grid[jnp.asarray([0, -1])], [sde.T, t_min])
    gaps = np.diff(EVEN[name](sde, grid))
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-6)
    assert np.all(np.diff(grid) < 0)


def test_a_density_is_shared_evenly(float64):
    """A density that falls as 1 / l^2 between l = 1 and 4: its integral is 1 - 1 / l."""
    places = jnp.linspace(1.0, 4.0, 20_001)
    sde = karras(float(EDM.time(1.0)))
    grid = grids.from_density(sde, float(EDM.time(4.0)), 6, places, 1 / places**2)
    np.testing.assert_allclose(1 - 1 / sde.log_snr(grid), np.linspace(0, 0.75, 7), atol=1e-6)


@pytest.mark.parametrize("make", [lambda: grids.karras(EDM, 0.002, 9, 0.0), lambda: grids.power(EDM, 0.002, 9, -1.0)])
def test_rho_is_positive(make):
    with pytest.raises(UsageError, match=r"rho=.* must be positive"):
        make()


def test_a_pilot_run_finds_a_better_grid(float64):
    """Of 20 evaluations: less than half the error of the best closed-form grid, on samples it has not seen."""
    data, solver = recorded_law("mix"), ExponentialAdams(3, corrected=True, lower_final=True)
    keys = example_keys(root_key(1), positions(0, pilot.SAMPLES))
    options = {"solver": solver, "t_min": 0.002, "num_steps": 19}
    grid = jax.jit(lambda keys: pilot.optimised(keys, data.score(EDM), EDM, (2,), **options))(keys)
    assert np.all(np.diff(grid) < 0)
    closed = min(rms_error("edm", solver, grids.karras(EDM, 0.002, 19, rho)) for rho in (3.0, 7.0, 20.0))
    assert rms_error("edm", solver, grid) < 0.5 * closed
