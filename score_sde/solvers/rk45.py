"""Dormand-Prince 5(4) for the probability-flow ODE, its step-size control that of scipy's solve_ivp, inside jit.

The same drift in the same precision gives scipy's accepted steps and number of evaluations: those of one solve for the
whole batch, or of as many solves as there are samples, still one program. Sources: Dormand & Prince 1980; Hairer,
Norsett & Wanner, Solving Ordinary Differential Equations I, sections II.4 and II.5.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.sde import SDE, reverse
from score_sde.solvers.base import AdaptiveSolver
from score_sde.typing import Array, Keys, ScoreFn, Time, expand

Drift = Callable[[Array, Array], Array]
"""(x [B, ...], t [] or [B]) -> dx/dt [B, ...]."""

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (0.0,) * 7,
    (1 / 5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (3 / 40, 9 / 40, 0.0, 0.0, 0.0, 0.0, 0.0),
    (44 / 45, -56 / 15, 32 / 9, 0.0, 0.0, 0.0, 0.0),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0.0, 0.0, 0.0),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0.0, 0.0),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
)
ERROR = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)
LAST = 6
"""The stage that arrives at the step's end, and whose slope the next step begins with."""

SAFETY, SMALLEST_FACTOR, LARGEST_FACTOR, EXPONENT = 0.9, 0.2, 10.0, -1 / 5


class _State(NamedTuple):
    """Everything but x and its derivative is [] for one step size, [B] for a step size per sample."""

    t: Array
    x: Array
    derivative: Array
    size: Array  # |step|
    rejected: Array  # whether the attempt before this one was
    failed: Array
    evaluations: Array


def _combine(coefficients: Array, slopes: Array) -> Array:
    # Term by term: XLA's CPU backend computes a reduction again for every element of what it is fused into.
    return sum((coefficients[i] * slopes[i] for i in range(1, LAST + 1)), start=coefficients[0] * slopes[0])


@dataclasses.dataclass(frozen=True)
class RK45(AdaptiveSolver):
    """Adaptive Runge-Kutta on the probability-flow ODE (Song et al. 2021, section 4.3).

    By default one error norm for the whole batch, as in the official sampler: a sample's value depends on its
    companions to the order of the tolerance. With per_sample each sample has its own norm, times, steps and number of
    evaluations, those of a solve of that sample alone; one that has arrived stays as it is while others go on. Where
    the step underflows (a score that is not finite), the result is NaN, of that sample alone if per_sample.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    per_sample: bool = False

    def solve(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        return self.integrate(reverse(sde, score, churn=0.0).drift, x, t, s)

    def integrate(self, drift: Drift, x: Array, t: Time, s: Time) -> tuple[Array, Array]:
        """Solve dx/dt = drift(x, t) from t to s, in either direction: x at s and the evaluations, int32.

        With per_sample, t and s are [] or [B], the drift is given t [B], and the evaluations are [B]; else all are [].
        """
        shape = x.shape[:1] if self.per_sample else ()
        t, s = (jnp.broadcast_to(jnp.asarray(time, x.dtype), shape) for time in (t, s))
        derivative = drift(x, t)
        size = self._first_size(drift, x, t, s, derivative)
        false = jnp.zeros(shape, bool)
        state = _State(t, x, derivative, size, false, false, jnp.full(shape, 2, jnp.int32))
        state = jax.lax.while_loop(
            lambda state: jnp.any(_unfinished(state, s)), lambda state: self._attempt(drift, state, s), state
        )
        return jnp.where(expand(state.failed, x), jnp.nan, state.x), state.evaluations

    def _rms(self, x: Array) -> Array:
        """Root mean square over the whole batch [], or over each sample [B]."""
        return jnp.sqrt(jnp.mean(x**2, axis=tuple(range(1, x.ndim)) if self.per_sample else None))

    def _scale(self, *xs: Array) -> Array:
        largest = jnp.abs(xs[0])
        for x in xs[1:]:
            largest = jnp.maximum(largest, jnp.abs(x))
        return self.atol + self.rtol * largest

    def _first_size(self, drift: Drift, x: Array, t: Array, s: Array, derivative: Array) -> Array:
        """Hairer, Norsett & Wanner's starting step, as scipy chooses it; one evaluation."""
        interval = jnp.abs(s - t)
        scale = self._scale(x)
        d0, d1 = self._rms(x / scale), self._rms(derivative / scale)
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = jnp.minimum(jnp.where(tiny, 1e-6, 0.01 * d0 / jnp.where(tiny, 1.0, d1)), interval)
        signed = h0 * jnp.sign(s - t)
        d2 = self._rms((drift(x + expand(signed, x) * derivative, t + signed) - derivative) / scale) / h0
        flat = (d1 <= 1e-15) & (d2 <= 1e-15)
        steep = jnp.where(flat, 1.0, jnp.maximum(d1, d2))
        h1 = jnp.where(flat, jnp.maximum(1e-6, h0 * 1e-3), (0.01 / steep) ** (1 / 5))
        return jnp.minimum(jnp.minimum(100 * h0, h1), interval)

    def _attempt(self, drift: Drift, state: _State, s: Array) -> _State:
        """One attempted step wherever it is not finished; accepted where the error norm is below 1."""
        t, x, active = state.t, state.x, _unfinished(state, s)
        direction = jnp.sign(s - t)
        smallest = 10 * jnp.abs(jnp.nextafter(t, direction * np.inf) - t)
        size = jnp.where(state.rejected, state.size, jnp.maximum(state.size, smallest))
        t_new = t + direction * size
        t_new = jnp.where(direction * (t_new - s) > 0, s, t_new)
        h = t_new - t
        size = jnp.abs(h)
        x_new, derivative, error = self._step(drift, x, state.derivative, t, h, t_new)

        accepted = error < 1
        growth = SAFETY * jnp.where(error == 0, 1.0, error) ** EXPONENT
        growth = jnp.where(error == 0, LARGEST_FACTOR, growth)
        # No growth straight after a rejection; a NaN error shrinks the step until it underflows.
        largest = jnp.where(state.rejected, 1.0, LARGEST_FACTOR)
        shrunk = jnp.fmax(SMALLEST_FACTOR, growth)
        factor = jnp.where(accepted, jnp.minimum(largest, growth), shrunk)
        next_size = size * factor
        moved = accepted & active
        return _State(
            t=jnp.where(moved, t_new, t),
            x=jnp.where(expand(moved, x), x_new, x),
            derivative=jnp.where(expand(moved, x), derivative, state.derivative),
            size=next_size,
            rejected=~accepted,
            failed=state.failed | (active & ~accepted & ~(next_size >= smallest)),
            evaluations=state.evaluations + jnp.where(active, 6, 0),
        )

    def _step(
        self, drift: Drift, x: Array, derivative: Array, t: Array, h: Array, t_new: Array
    ) -> tuple[Array, Array, Array]:
        """x and its derivative at t_new = t + h, and the norm of the error estimate; six evaluations."""
        wide, table, nodes = expand(h, x), jnp.asarray(STAGES, x.dtype), jnp.asarray(NODES, x.dtype)

        def stage(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            y = x + wide * _combine(table[i], carry[0])
            slope = drift(y, jnp.where(i == LAST, t_new, t + nodes[i] * h))
            return carry[0].at[i].set(slope), y

        # A loop, so that the drift is compiled once. Its last stage is the step's end.
        slopes = jnp.zeros((LAST + 1, *x.shape), x.dtype).at[0].set(derivative)
        slopes, x_new = jax.lax.fori_loop(1, LAST + 1, stage, (slopes, x))
        error = wide * _combine(jnp.asarray(ERROR, x.dtype), slopes)
        return x_new, slopes[LAST], self._rms(error / self._scale(x, x_new))


def _unfinished(state: _State, s: Array) -> Array:
    return (state.t != s) & ~state.failed
