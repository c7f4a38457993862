"""DPM-Solver++ (SDE) on Gaussian data, where the law of its samples is known exactly: its order, and what makes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import vp
from score_sde.solvers import DPMSolverSDE, grids
from tests.oracles import CONTINUOUS

DATA_MEAN, DATA_VARIANCE = 0.3, 0.25


def law_error(sde, count, one_path):
    """Of the mean and, relative, of the variance at the end; every step is affine in x and in its two normals."""
    marginal = lambda t: sde.alpha(t) ** 2 * DATA_VARIANCE + sde.sigma(t) ** 2
    score = lambda x, t: -(x - sde.alpha(t) * DATA_MEAN) / marginal(t)
    grid = grids.log_snr(sde, 0.1 * sde.T, count)

    def body(carry, ts):
        mean, variance = carry
        r_t, r_s = (sde.sigma(t) / sde.alpha(t) for t in ts)
        share = (r_t - jnp.sqrt(r_t * r_s)) / (r_t - r_s)

        def step(x, z, between):
            if not one_path:  # the bridge that leaves the middle's noise to `between` alone
                between = (between - jnp.sqrt(share) * z) / jnp.sqrt(1 - share)
            x, z, between = (jnp.full((1, 1), a) for a in (x, z, between))
            return DPMSolverSDE().given(sde, score, x, *ts, (), z, between).x[0, 0]

        offset = step(0.0, 0.0, 0.0)
        a, b, c = (step(*one) - offset for one in np.eye(3))
        return (a * mean + offset, a**2 * variance + b**2 + c**2), None

    start = (sde.alpha(grid[0]) * DATA_MEAN, marginal(grid[0]))
    (mean, variance), _ = jax.lax.scan(body, start, (grid[:-1], grid[1:]))
    return abs(float(mean - sde.alpha(grid[-1]) * DATA_MEAN)) + abs(float(variance / marginal(grid[-1]) - 1))


@pytest.mark.parametrize("sde_name", CONTINUOUS)
@pytest.mark.parametrize(("one_path", "order"), [(True, 2), (False, 1)])
def test_the_law_has_order_two_along_one_path_and_one_with_independent_noises(float64, one_path, order, sde_name):
    errors = [law_error(CONTINUOUS[sde_name], n, one_path) for n in (200, 400, 800)]
    np.testing.assert_allclose(np.log2(np.divide(errors[:-1], errors[1:])), order, atol=0.1)


def test_a_step_draws_two_normals_of_an_example():
    """Of its own key alone: bitwise the same in another batch."""
    sde, keys = vp(), example_keys(root_key(0), positions(0, 4))
    point = lambda x, t: -x / sde.sigma(t) ** 2
    step = lambda keys, x: DPMSolverSDE().step(keys, sde, point, x, jnp.float32(0.9), jnp.float32(0.3), ())
    whole = step(keys, jnp.ones((4, 3)))
    assert len(np.unique(np.asarray(whole.x))) == 12
    np.testing.assert_array_equal(step(keys[2:], jnp.ones((2, 3))).x, whole.x[2:])
