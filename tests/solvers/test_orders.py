"""The order of every solver on the mixture, under every SDE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.sde import vp
from score_sde.solvers import Data, ExponentialAdams
from score_sde.solvers.exponential import moments
from score_sde.solvers.multistep import interpolation
from tests.solvers.certify import COUNTS, DETERMINISTIC, STOCHASTIC, errors, orders, weak_errors

pytestmark = [pytest.mark.certification, pytest.mark.usefixtures("float64")]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_global_order(name):
    """The slope from 256 to 512 steps is the solver's order and no other; rounding is far below the errors."""
    solver, order = DETERMINISTIC[name]
    found = errors(solver, COUNTS)
    assert found.min() > 1e-10
    np.testing.assert_allclose(orders(found, COUNTS)[:, -1], order, atol=0.5)


@pytest.mark.usefixtures("optimised")  # millions of samples
@pytest.mark.parametrize("name", STOCHASTIC)
def test_weak_order(name):
    """The difference of N steps from 2 N falls by 2^order or more at each doubling of N, from 12 to 48.

    Up to a factor of 2, half an order on two doublings, and 4 standard errors; from N = 12 or 24, as it may happen to
    change its sign at one of them. One-step solvers' orders are exact in test_solvers.py.
    """
    solver, order = STOCHASTIC[name]
    difference, standard_error = weak_errors(solver, (12, 24, 48, 96))
    first, second, last = np.abs(difference.T)
    expected = np.maximum(first * 4.0**-order, second * 2.0**-order)
    np.testing.assert_array_less(last, 2 * expected + 4 * standard_error[:, 2])


@pytest.mark.parametrize("h", [-300.0, -2.0, -0.3, -1e-4, 1e-6, 0.9, 1.1, 12.0])
def test_moments_are_the_integrals(h):
    """int_0^1 h e^{h (1 - u)} u^k du by Gauss-Legendre quadrature on 400 nodes."""
    u, w = np.polynomial.legendre.leggauss(400)
    u, w = (u + 1) / 2, w / 2
    expected = [np.sum(w * h * np.exp(h * (1 - u)) * u**k) for k in range(5)]
    np.testing.assert_allclose(moments(jnp.asarray(h), 5), expected, rtol=1e-9)


def test_moments_in_single_precision():
    with jax.enable_x64(False):
        h = jnp.asarray([-5.0, -0.5, 1e-3, 0.3, 3.0], jnp.float32)
        found = moments(h, 4)
    np.testing.assert_allclose(found, moments(h.astype(jnp.float64), 4), rtol=1e-4)


def test_interpolation_integrates_polynomials_exactly():
    points = jnp.asarray([[0.0, -0.7, -1.9, 1.0]])
    powers = np.stack([np.asarray(points[0]) ** k for k in range(4)])
    target = jnp.asarray([[2.0, -1.0, 0.3, 5.0]])
    np.testing.assert_allclose(powers @ np.asarray(interpolation(points, target)[0]), target[0], rtol=1e-12)


def test_churn_as_a_function_is_the_number_where_it_is_constant():
    sde, grid = vp(), jnp.linspace(0.9, 0.1, 5)
    x = jnp.ones((1, 2))
    a, b = (ExponentialAdams(2, Data(c)).init(sde, x, grid).table for c in (0.6, lambda t: 0.6 + 0.0 * t))
    for ours, theirs in zip(a[:3], b[:3]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
