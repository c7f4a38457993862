"""The log-likelihood of the probability-flow ODE on a grid of times: one evaluation a node, for all examples.

With l = log(alpha / sigma), eps = -sigma score and the linear parts solved exactly,
    x_s / alpha_s = x_t / alpha_t - int e^-l eps dl,
    log p(x_0) = log prior(x_T) + D log(alpha_T / alpha_0) - int sigma div eps dl,  both from t_min to T.
The first by the exponential Adams method of order 3 with its corrector, the second by cubics through neighbouring
nodes: both are of fourth order, where the adaptive solver (ode.py) takes five to ten times the evaluations. Source: the
ODE and its density Song et al. 2021, section 4.3; the method Zhang & Chen 2022, corrected as Zhao et al. 2023. For a
Gaussian of standard deviation s the second integrand is D / (1 + s^2 e^(2 l)): smooth in l, and so of images, too.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.likelihood.ode import LogLikelihood
from score_sde.scores.divergence import Estimate
from score_sde.sde import SDE
from score_sde.solvers.exponential import node
from score_sde.solvers.exponential_adams import ExponentialAdams
from score_sde.solvers.grids import at_shares
from score_sde.solvers.multistep import combine, interpolation
from score_sde.solvers.pilot import derivative
from score_sde.typing import Array, ScoreFn

MOST = 256
"""Nodes of the longest grid."""

SURVEY = 64
"""Nodes of the even grid on which the rates are looked at."""

FEWEST, GROWTH = 32, 1.5
"""Of grids that are tried: the first one's nodes, and how many times as many the next one has."""

START = (1 / 8, 1 / 4, 1 / 2)
"""Nodes within the first step, in its unit: a multistep method begins with low orders."""


class Grid(NamedTuple):
    """times [MOST + 1], rising from t_min to T, which stands in what is left; nodes: how many of them are so, []."""

    times: Any
    nodes: Any


def steps(
    sde: SDE, t_min: float, count: int, places: np.ndarray | None = None, rates: np.ndarray | None = None
) -> Grid:
    """A grid of `count` nodes: evenly in l, or also by the third derivative of rates [K, B] known at places l [K].

    Half of the nodes lie evenly, half share int |d^3 rate / dl^3|^(1/4) dl evenly, which makes the local errors of a
    method of order 3 equal (de Boor 1973).
    """
    first, last = (float(0.5 * sde.log_snr(jnp.asarray(t))) for t in (t_min, sde.T))
    if places is None or rates is None:
        places, density = np.linspace(first, last, 2), np.ones(2)
    else:
        density = _density(rates, places)
    even = np.linspace(0, 1, count - len(START))
    shares = np.concatenate([even[:1], even[1] * np.array(START), even[1:]])
    at = -at_shares(-jnp.asarray(places), jnp.asarray(density), jnp.asarray(shares))
    times = np.array(sde.time(2 * at), np.float64)
    times[0], times[-1] = t_min, sde.T
    return of(times)


def of(times: np.ndarray) -> Grid:
    """The grid of rising times [count], at most MOST."""
    padded = np.pad(times, (0, MOST + 1 - len(times)), mode="edge")
    return Grid(padded.astype(np.float32), np.int32(len(times)))


def _density(rates: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Of nodes at the places [K]: one part even, one by the third derivative, smoothed; their integrals are equal."""
    even = np.full(len(places), 1 / (places[0] - places[-1]))
    values = rates[:, np.isfinite(rates).all(0)]
    if not values.any():
        return even
    density = np.asarray(derivative(jnp.asarray(values), -jnp.asarray(places), 3, 5)) ** 0.25
    integral = np.trapezoid(density, -places)
    return even + density / integral if integral > 0 else even


def log_likelihood_on(
    estimate: Estimate, score: ScoreFn, sde: SDE, x0: Array, grid: Grid
) -> tuple[LogLikelihood, Array]:
    """`ode.log_likelihood_given` on a grid, and sigma div eps at its nodes [MOST, B, M], 0 behind them.

    x0 [B, ...], in nats. Pure: jit it as a whole; one program serves all grids.
    """
    solver, count = ExponentialAdams(3, corrected=True), grid.nodes
    nodes = node(sde, grid.times)
    table, weights = solver.table(nodes), _quadrature(nodes.log_ratio[:MOST], count)

    def step(i: Array, carry: tuple) -> tuple:
        x, before, rates = carry
        t = jnp.broadcast_to(grid.times[i], len(x))
        output, rate = estimate(lambda y: solver.prediction.output(sde, score, y, t), x)
        outputs = (output, *before)
        x = x + combine(table.correction[i], outputs)  # pyright: ignore[reportOptionalSubscript]
        moved = table.x[i] * x + combine(table.outputs[i], outputs)
        rates = rates.at[i].set(nodes.sigma[i] * rate)
        return jnp.where(i < count - 1, moved, x), outputs[: len(before)], rates

    shape = jax.eval_shape(lambda x: estimate(lambda y: y, x)[1], x0).shape
    start = (x0, (jnp.zeros_like(x0),) * solver.order, jnp.zeros((MOST, *shape), x0.dtype))
    z, _, rates = jax.lax.fori_loop(0, count, step, start)
    dimension = x0[0].size
    linear = dimension * jnp.log(nodes.alpha[-1] / nodes.alpha[0])
    integral = jnp.tensordot(weights, rates, 1)
    return LogLikelihood(sde.prior_log_prob(z)[:, None] + linear - integral, z, count), rates


def _quadrature(places: Array, count: Array) -> Array:
    """Weights [N] of values at falling places [N], `count` of them used, in the integral from the first to the last.

    Of the cubics through four neighbours.
    """
    i = jnp.arange(len(places) - 1, dtype=count.dtype)
    index = jnp.clip(i - 1, 0, count - 4)[:, None] + jnp.arange(4, dtype=count.dtype)[None]
    step = jnp.diff(places)
    inside = i < count - 1
    points = (places[index] - places[:-1, None]) / jnp.where(inside, step, 1.0)[:, None]
    moments = jnp.broadcast_to(1 / jnp.arange(1.0, 5.0, dtype=places.dtype)[None], points.shape)
    weights = jnp.where(inside, step, 0.0)[:, None] * interpolation(points, moments)
    return jnp.zeros_like(places).at[index].add(jnp.where(inside[:, None], weights, 0.0))
