"""Solvers on data with an exact score: the law they recover and their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import example_keys, normal, positions, root_key
from score_sde.scores.posterior import Large, Small
from score_sde.sde import SDE
from score_sde.sde.analytic import gaussian
from score_sde.solvers import (
    RK45,
    AdaptiveSDE,
    AdaptiveSolver,
    Ancestral,
    AnnealedLangevin,
    DPMSolverAdaptive,
    DPMSolverSDE,
    Euler,
    EulerMaruyama,
    Langevin,
    OneStepSolver,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
    grids,
)
from score_sde.solvers.sampling import sample
from tests.golden_files import relative_error
from tests.oracles import CONTINUOUS, EVERY_SDE, FLOWING, T_MIN

D = 16
N_SAMPLES = 2048
MEAN = np.linspace(-1, 1, D)


def covariance() -> np.ndarray:
    """A chain with correlation 0.6 between neighbours and standard deviations from 0.4 to 0.8."""
    std = np.linspace(0.4, 0.8, D)
    return np.outer(std, std) * 0.6 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))


@pytest.fixture(scope="module")
def data():
    return gaussian(jnp.asarray(MEAN, jnp.float32), jnp.asarray(covariance(), jnp.float32))


PREDICTORS = {
    "euler_maruyama": EulerMaruyama(),
    "reverse_diffusion": ReverseDiffusion(),
    "ancestral": Ancestral(),
    "euler_maruyama_churn": EulerMaruyama(churn=0.5),
    "ancestral_large": Ancestral(Large()),
    "euler": Euler(),
    "rk45": RK45(per_sample=True),
    "dpm_solver_sde": DPMSolverSDE(),
    "dpm_solver_23": DPMSolverAdaptive(3, 1e-3, 1e-3, per_sample=True, longest=1.0),
    "adaptive_sde": AdaptiveSDE(rtol=0.005, atol=0.002),
}
CORRECTORS = {"none": None, "langevin": Langevin(snr=0.05), "annealed_langevin": AnnealedLangevin(snr=0.05, steps=2)}
WAYS = [(sde, p, "none") for sde in CONTINUOUS for p in PREDICTORS]
WAYS += [(sde, "reverse_diffusion", c) for sde in CONTINUOUS for c in CORRECTORS if c != "none"]
WAYS += [(sde, p, "none") for sde in ("straight", "cosine") for p in ("reverse_diffusion", "ancestral", "rk45")]
WAYS += [("vp", p, c) for p in ("euler_maruyama", "ancestral") for c in CORRECTORS if c != "none"]
"""SDE, predictor and corrector: every pair that matters somewhere, and each alone or by its like everywhere."""
STEPS = {"euler": 2000}  # 500 elsewhere


def combined(predictor: str, corrector: str) -> Solver | AdaptiveSolver:
    first, second = PREDICTORS[predictor], CORRECTORS[corrector]
    if second is None:
        return first
    assert isinstance(first, Solver)
    return PredictorCorrector(first, second)


@pytest.mark.usefixtures("optimised")
@pytest.mark.certification
@pytest.mark.parametrize(("sde_name", "predictor", "corrector"), WAYS)
def test_gaussian_data_is_recovered(data, sde_name, predictor, corrector):
    """n = 2048 samples: mean and covariance along the principal axes within 5 standard errors of Monte Carlo.

    Beside it stand 1 % of a standard deviation and 3 % of the variance, which first-order steps of this size may be off
    by (test_weak_order_one), and Langevin's exactly known bias: it settles on p |score|^2, not on p.
    """
    sde = FLOWING[sde_name]
    keys = example_keys(root_key(0), positions(0, N_SAMPLES))
    grid = grids.log_snr(sde, T_MIN[sde_name], STEPS.get(predictor, 500))
    run = lambda keys: sample(keys, data.score(sde), sde, (D,), solver=combined(predictor, corrector), times=grid)
    x = np.asarray(jax.jit(run)(keys).x, np.float64)
    v = np.asarray(data.variances, np.float64)
    y = (x - MEAN) @ np.asarray(data.basis) / np.sqrt(v)
    # x is denoised at t_min: E[x_0 | x_t] has the variance v^2 / (v + sigma^2 / alpha^2).
    expected = 1 / (1 + float(sde.sigma(T_MIN[sde_name]) / sde.alpha(T_MIN[sde_name])) ** 2 / v)
    if corrector == "langevin":
        expected *= 1 + 2 / v / np.sum(1 / v)
    error = np.abs(np.cov(y.T) - np.diag(expected))
    np.testing.assert_array_less(np.abs(y.mean(0)), 5 / np.sqrt(N_SAMPLES) + 0.01)
    np.testing.assert_array_less(error, 5 * np.sqrt((1 + np.eye(D)) / N_SAMPLES) + 0.03)
    # All axes together: the standard error falls by sqrt(D).
    assert abs(np.trace(np.cov(y.T)) / expected.sum() - 1) < 5 * np.sqrt(2 / (N_SAMPLES * D)) + 0.03


def variance_after(solver: OneStepSolver, sde: SDE, grid: np.ndarray, data_variance: float) -> tuple[float, float]:
    """Relative errors of mean and variance at the last node, exact as every update is linear in x and z."""
    marginal = lambda t: sde.alpha(t) ** 2 * data_variance + sde.sigma(t) ** 2
    score = lambda x, t: -(x - sde.alpha(t)) / marginal(t)

    def body(carry, ts):
        mean, variance = carry
        step = lambda x, z: solver.update(sde, score, jnp.full((1, 1), x), ts[0], ts[1], jnp.full((1, 1), z)).x[0, 0]
        offset = step(0.0, 0.0)
        a, b = step(1.0, 0.0) - offset, step(0.0, 1.0) - offset
        return (a * mean + offset, a**2 * variance + b**2), None

    start = (sde.alpha(grid[0]), marginal(grid[0]))
    (mean, variance), _ = jax.lax.scan(body, start, (jnp.asarray(grid[:-1]), jnp.asarray(grid[1:])))
    return float(mean - sde.alpha(grid[-1])), float(variance / marginal(grid[-1]) - 1)


ONE_STEP = {name: s for name, s in PREDICTORS.items() if isinstance(s, OneStepSolver)}


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize("predictor", ONE_STEP)
def test_weak_order_one(float64, sde_name, predictor):
    """On Gaussian data the law of the samples is known exactly: its error halves with the step.

    Data of variance 1e-3: at 0.25 or 4 Euler-Maruyama's first-order error under VE happens to vanish.
    """
    sde = CONTINUOUS[sde_name]
    errors = []
    for n in (400, 800, 1600):
        grid = np.asarray(grids.uniform(sde, 0.1 * sde.T, n))
        errors.append(np.abs(variance_after(ONE_STEP[predictor], sde, grid, 1e-3)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 1, atol=0.1)


@pytest.mark.parametrize("sde_name", FLOWING)
def test_euler_has_order_one_on_the_probability_flow(float64, sde_name):
    sde, data = FLOWING[sde_name], gaussian(jnp.ones(2), jnp.eye(2) * 0.25)
    x = normal(example_keys(root_key(0), positions(0, 4)), (2,)) * sde.prior_std
    exact = data.flow(sde)(x, sde.T, 0.1 * sde.T)
    errors = []
    for n in (200, 400, 800):
        grid = grids.uniform(sde, 0.1 * sde.T, n)
        body = lambda x, ts: (Euler().step(x, sde, data.score(sde), x, *ts, ()).x, None)
        errors.append(relative_error(jax.lax.scan(body, x, (grid[:-1], grid[1:]))[0], exact))
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), 1, atol=0.1)


@pytest.mark.parametrize("sde_name", CONTINUOUS)
def test_the_small_ancestral_variance_is_exact_for_data_of_no_variance(sde_name):
    """One long step onto data of no variance is exact with the small variance: x_s ~ N(alpha_s mu, sigma_s^2)."""
    sde, t, s = CONTINUOUS[sde_name], 0.9, 0.3
    point = lambda x, t: -(x - sde.alpha(t)) / sde.sigma(t) ** 2
    linear = lambda z, x: Ancestral().update(sde, point, jnp.full((1, 1), x), t, s, jnp.full((1, 1), z)).x[0, 0]
    offset = linear(0.0, sde.alpha(t))
    np.testing.assert_allclose(offset, sde.alpha(s), rtol=1e-4, atol=1e-5)
    spread = linear(0.0, sde.alpha(t) + sde.sigma(t)) - offset
    noise = linear(1.0, sde.alpha(t)) - offset
    np.testing.assert_allclose(np.hypot(spread, noise), sde.sigma(s), rtol=1e-4)


@pytest.mark.parametrize("name", ["vp", "chain", "cosine chain"])
def test_the_large_ancestral_variance_is_exact_for_standard_normal_data(name):
    """Under VP such data stays standard normal: one long step takes variance 1 to 1, and the small one to less."""
    sde, t, s = EVERY_SDE[name], jnp.asarray(0.9), jnp.asarray(0.3)
    variances = []
    for variance in (Large(), Small()):
        step = lambda x, z, v=variance: Ancestral(v).update(
            sde, lambda x, t: -x, jnp.full((1, 1), x), t, s, jnp.full((1, 1), z)
        )
        variances.append(float(step(1.0, 0.0).x[0, 0] ** 2 + step(0.0, 1.0).x[0, 0] ** 2))
    np.testing.assert_allclose(variances[0], 1, rtol=1e-4)
    assert variances[1] < 0.95
