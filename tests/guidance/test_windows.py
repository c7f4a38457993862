"""Signals of overlapping windows, against the law of a stationary process that is known at every length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.guidance.windows import Windows
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import vp
from score_sde.sde.analytic import gaussian
from score_sde.solvers import ExponentialAdams, grids
from score_sde.solvers.sampling import carried


def test_joined_is_what_was_split_and_weights_are_one_in_all():
    windows = Windows(8, 20)
    x = jax.random.normal(jax.random.key(0), (3, 20, 2))
    parts = windows.split(x)
    assert parts.shape == (12, 8, 2) and windows.count == 4
    np.testing.assert_array_equal(parts[1], x[0, 4:12])
    np.testing.assert_allclose(windows.join(parts), x, rtol=1e-6)
    np.testing.assert_allclose(windows.join(jnp.ones((8, 8))), 1, rtol=1e-6)
    frames = windows.condition({"frames": x[:, :10], "label": jnp.arange(3)}, {"frames": 2})
    np.testing.assert_array_equal(frames["frames"][5], x[1, 2:6])
    np.testing.assert_array_equal(frames["label"], np.repeat(np.arange(3), 4))


def test_one_window_is_the_score_itself():
    score = lambda x, t: jnp.sin(x) * t[:, None]
    x, t = jax.random.normal(jax.random.key(0), (3, 8)), jnp.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(Windows(8, 8).score(score)(x, t), score(x, t), rtol=1e-6)
    both = Windows(8, 16).score(score)
    long = jnp.concatenate([x, x], axis=1)
    np.testing.assert_allclose(both(long, t)[1:2], both(long[1:2], t[1:2]), rtol=1e-6)  # whatever the batch


@pytest.mark.parametrize("length", [6, 14, 21])
def test_lengths_that_windows_do_not_make_are_refused(length):
    with pytest.raises(UsageError, match="overlap by half"):
        Windows(8, length)


def law(length: int, correlation: float = 0.7):
    """A stationary autoregression of order 1 and unit variance."""
    n = jnp.arange(length)
    return gaussian(jnp.zeros(length), correlation ** jnp.abs(n[:, None] - n[None]).astype(jnp.float32))


def covariance(score, length: int) -> np.ndarray:
    """Of the ODE's samples in closed form: the solver is linear in what it begins with, so of unit vectors."""
    times, solver = grids.log_snr(vp(), 1e-3, 25), ExponentialAdams(3)
    keys = example_keys(root_key(0), positions(0, length))  # which the solver draws nothing by
    run = jax.jit(lambda x: carried(keys, score, vp(), x, solver=solver, times=times).x)
    map_of = np.asarray(run(jnp.eye(length)), float)
    return map_of.T @ map_of


def test_long_signals_have_the_processs_own_law():
    """Windows of 32: every covariance within .75 % of the variance, across joints too.

    Where windows lie side by side, what is on both sides of a joint is independent: the correlation of .7 is lost.
    """
    length, exact = 96, 0.7 ** np.abs(np.subtract.outer(np.arange(96), np.arange(96)))
    score = law(32).score(vp())
    found = covariance(Windows(32, length).score(score), length)
    assert np.abs(found - exact).max() < 0.0075
    beside = lambda x, t: score(x.reshape(-1, 32), jnp.broadcast_to(t, 3 * len(x))).reshape(x.shape)
    assert np.abs(covariance(beside, length) - exact).max() > 0.6
