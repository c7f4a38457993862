"""DPM-Solver-12 and -23: singlestep DPM-Solvers on the probability-flow ODE that choose their own steps in log-SNR.

Sources: Lu et al. 2022 (arXiv 2206.00927), appendix C, and their code's behaviour; k-diffusion's dpm_adaptive.
"""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.solvers.base import AdaptiveSolver
from score_sde.solvers.dpm_solver import DPMSolverSinglestep
from score_sde.solvers.exponential import Noise, Prediction, node
from score_sde.typing import Array, Keys, ScoreFn, expand

SHRINKING = 0.2
"""Factor of the next step after one whose error is not finite."""


class Control(abc.ABC):
    """What becomes of a step whose error, in units of the tolerance, is known; errors are [] or [B]."""

    @abc.abstractmethod
    def joined(self, errors: Array) -> Array:
        """One error [] for the whole batch, of those of its examples [B]."""

    @abc.abstractmethod
    def judged(self, error: Array, order: int) -> tuple[Array, Array]:
        """Whether the step is accepted, and the next one's length in units of its own."""


@dataclasses.dataclass(frozen=True)
class Proportional(Control):
    """Lu et al.'s: accepted up to an error of 1, the factor is safety error^(-1 / order).

    A batch's error is the largest.
    """

    safety: float = 0.9

    def joined(self, errors: Array) -> Array:
        return jnp.max(errors)

    def judged(self, error: Array, order: int) -> tuple[Array, Array]:
        return error <= 1, self.safety * error ** (-1 / order)


@dataclasses.dataclass(frozen=True)
class LimitedGrowth(Control):
    """k-diffusion's: the factor is f = 1 + arctan(error^(-1 / order) - 1), accepted are those of `least` or more.

    No step is more than 2.6 times as long as the one before. A batch's error is the root mean square.
    """

    least: float = 0.81

    def joined(self, errors: Array) -> Array:
        return jnp.sqrt(jnp.mean(errors**2))

    def judged(self, error: Array, order: int) -> tuple[Array, Array]:
        factor = 1 + jnp.arctan((error + 1e-8) ** (-1 / order) - 1)
        return factor >= self.least, factor


class _State(NamedTuple):
    """Everything but x and x_lower, the last accepted step's by the lower order, is [] or [B]."""

    log_ratio: Array
    x: Array
    x_lower: Array
    size: Array
    failed: Array
    evaluations: Array


@dataclasses.dataclass(frozen=True)
class DPMSolverAdaptive(AdaptiveSolver):
    """Steps of DPM-Solver-`order`, 2 or 3, whose error is the distance from the order below at the same evaluations.

    The error norm is the RMS over a sample of that distance over max(atol, rtol max(|x'|, |x''|)), x' by the lower
    order and x'' that of the step before. With per_sample each sample has its own norm, steps and number of
    evaluations, those of a solve of that sample alone; else, as published, one for the whole batch, on which a
    sample's value then depends to the order of the tolerance. What becomes of an error is the `control`'s. The first
    step is `first` long in log(alpha / sigma), and none is longer than `longest`, without end as published: but over
    long steps the two orders agree by chance now and then, and a sample on its own then leaps past what it should see.
    `order` evaluations an attempt, the one at the step's start made anew after a rejection, as published. Where the
    step underflows (a score that is not finite) the result is NaN, of that sample alone if per_sample. Sources: Lu et
    al. 2022, appendix C; k-diffusion's dpm_adaptive.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    per_sample: bool = False
    prediction: Prediction = dataclasses.field(default_factory=Noise)
    control: Control = dataclasses.field(default_factory=Proportional)
    first: float = 0.05
    longest: float = math.inf

    def solve(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> tuple[Array, Array]:
        t, s = (jnp.asarray(time, x.dtype) for time in (t, s))
        start, end = 0.5 * sde.log_snr(t), 0.5 * sde.log_snr(s)
        full = lambda value: jnp.full(x.shape[:1] if self.per_sample else (), value)
        first = jnp.asarray(self.first, x.dtype)
        state = jax.lax.while_loop(
            lambda state: jnp.any(_unfinished(state, end)),
            lambda state: self._attempt(sde, score, state, t, s),
            _State(full(start), x, x, full(first), full(False), full(jnp.int32(0))),
        )
        return jnp.where(expand(state.failed, x), jnp.nan, state.x), state.evaluations

    def _attempt(self, sde: SDE, score: ScoreFn, state: _State, t: Array, s: Array) -> _State:
        """One attempted step wherever it is not finished."""
        start, end, x = 0.5 * sde.log_snr(t), 0.5 * sde.log_snr(s), state.x
        here, active = state.log_ratio, _unfinished(state, end)
        there = jnp.where(here + state.size < end, here + state.size, end)
        at = lambda log_ratio: node(sde, jnp.clip(sde.time(2 * log_ratio), s, t))
        lower, higher = DPMSolverSinglestep(self.order, self.prediction).pair(sde, score, x, at(here), at(there))
        error = self._error(lower, higher, state.x_lower)
        accepted, factor = self.control.judged(error, self.order)
        size = (there - here) * jnp.where(jnp.isfinite(error), factor, SHRINKING)
        moved, smallest = accepted & active, 10 * jnp.finfo(x.dtype).eps * jnp.maximum(-start, end)
        return _State(
            log_ratio=jnp.where(moved, there, here),
            x=jnp.where(expand(moved, x), higher, x),
            x_lower=jnp.where(expand(moved, x), lower, state.x_lower),
            size=jnp.minimum(size, self.longest),
            failed=state.failed | (active & ~accepted & ~(size >= smallest)),
            evaluations=state.evaluations + jnp.where(active, self.order, 0),
        )

    def _error(self, lower: Array, higher: Array, before: Array) -> Array:
        """The error norm of each sample [B], or of the whole batch []."""
        scale = jnp.maximum(self.atol, self.rtol * jnp.maximum(jnp.abs(lower), jnp.abs(before)))
        errors = jnp.sqrt(jnp.mean(((higher - lower) / scale) ** 2, axis=tuple(range(1, lower.ndim))))
        return errors if self.per_sample else self.control.joined(errors)


def _unfinished(state: _State, end: Array) -> Array:
    return (state.log_ratio < end) & ~state.failed
