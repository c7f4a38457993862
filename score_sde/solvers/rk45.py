"""Dormand-Prince 5(4) for the probability-flow ODE, its step-size control that of scipy's solve_ivp, inside jit.

The same drift in the same precision gives scipy's accepted steps and number of evaluations. Sources: Dormand &
Prince 1980; Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.4 and II.5.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.sde import SDE, reverse
from score_sde.solvers.base import AdaptiveSolver
from score_sde.typing import Array, Keys, ScoreFn

Drift = Callable[[Array, Array], Array]

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
WEIGHTS = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
ERROR = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
SAFETY, SMALLEST_FACTOR, LARGEST_FACTOR, EXPONENT = 0.9, 0.2, 10.0, -1 / 5


class _State(NamedTuple):
    t: Array
    x: Array
    derivative: Array
    size: Array  # |step|
    rejected: Array  # whether the attempt before this one was
    failed: Array
    evaluations: Array


def _combine(coefficients: tuple[float, ...], slopes: list[Array]) -> Array:
    return sum((c * k for c, k in zip(coefficients, slopes) if c), start=jnp.zeros_like(slopes[0]))


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(x**2))


@dataclasses.dataclass(frozen=True)
class RK45(AdaptiveSolver):
    """Adaptive Runge-Kutta on the probability-flow ODE (Song et al. 2021, section 4.3).

    One error norm for the whole batch, as in the official sampler: a sample's value depends on its companions to
    the order of the tolerance. Where the step underflows (a score that is not finite), the result is NaN.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def solve(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        return self.integrate(reverse(sde, score, churn=0.0).drift, x, t, s)

    def integrate(self, drift: Drift, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        """Solve dx/dt = drift(x, t) from t to s, in either direction: x at s and the evaluations."""
        t, s = jnp.asarray(t, x.dtype), jnp.asarray(s, x.dtype)
        derivative = drift(x, t)
        size = self._first_size(drift, x, t, s, derivative)
        false = jnp.zeros((), bool)
        state = _State(t, x, derivative, size, false, false, jnp.int32(2))
        state = jax.lax.while_loop(
            lambda state: (state.t != s) & ~state.failed, lambda state: self._attempt(drift, state, s), state
        )
        return jnp.where(state.failed, jnp.nan, state.x), state.evaluations

    def _scale(self, *xs: Array) -> Array:
        largest = jnp.abs(xs[0])
        for x in xs[1:]:
            largest = jnp.maximum(largest, jnp.abs(x))
        return self.atol + self.rtol * largest

    def _first_size(self, drift: Drift, x: Array, t: Array, s: Array, derivative: Array) -> Array:
        """Hairer, Norsett & Wanner's starting step, as scipy chooses it; one evaluation."""
        interval = jnp.abs(s - t)
        scale = self._scale(x)
        d0, d1 = _rms(x / scale), _rms(derivative / scale)
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = jnp.minimum(jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1.0, d1)), interval)
        signed = h0 * jnp.sign(s - t)
        d2 = _rms((drift(x + signed * derivative, t + signed) - derivative) / scale) / h0
        flat = (d1 <= 1e-15) & (d2 <= 1e-15)
        steep = jnp.where(flat, 1.0, jnp.maximum(d1, d2))
        h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), (0.01 / steep) ** (1 / 5))
        return jnp.minimum(jnp.minimum(100 * h0, h1), interval)

    def _attempt(self, drift: Drift, state: _State, s: Array) -> _State:
        """One attempted step; accepted where the error norm is below 1."""
        t, x = state.t, state.x
        direction = jnp.sign(s - t)
        smallest = 10 * jnp.abs(jnp.nextafter(t, direction * np.inf) - t)
        size = jnp.where(state.rejected, state.size, jnp.maximum(state.size, smallest))
        t_new = t + direction * size
        t_new = jnp.where(direction * (t_new - s) > 0, s, t_new)
        h = t_new - t
        size = jnp.abs(h)

        slopes = [state.derivative]
        for node, stage in zip(NODES[1:], STAGES[1:]):
            slopes.append(drift(x + h * _combine(stage, slopes), t + node * h))
        x_new = x + h * _combine(WEIGHTS, slopes)
        slopes.append(drift(x_new, t_new))
        error = _rms(h * _combine(ERROR, slopes) / self._scale(x, x_new))

        accepted = error < 1
        growth = SAFETY * jnp.where(error == 0, 1.0, error) ** EXPONENT
        growth = jnp.where(error == 0, LARGEST_FACTOR, growth)
        # No growth straight after a rejection; a NaN error shrinks the step until it underflows.
        largest = jnp.where(state.rejected, 1.0, LARGEST_FACTOR)
        shrunk = jnp.fmax(SMALLEST_FACTOR, growth)
        factor = jnp.where(accepted, jnp.minimum(largest, growth), shrunk)
        next_size = size * factor
        return _State(
            t=jnp.where(accepted, t_new, t),
            x=jnp.where(accepted, x_new, x),
            derivative=jnp.where(accepted, slopes[-1], state.derivative),
            size=next_size,
            rejected=~accepted,
            failed=~accepted & ~(next_size >= smallest),
            evaluations=state.evaluations + 6,
        )
