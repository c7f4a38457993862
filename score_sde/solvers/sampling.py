"""From prior to data: one pure function over every solver, to be compiled once as a whole trajectory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from score_sde.rng import Purpose, child
from score_sde.sde import SDE, denoiser
from score_sde.solvers.base import AdaptiveSolver, Solver
from score_sde.typing import Array, Constraint, Keys, ScoreFn


class Samples(NamedTuple):
    """Samples x [B, ...] and the number of network evaluations that each took [] or [B] (int32)."""

    x: Array
    evaluations: Array


def sample(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    shape: tuple[int, ...],
    *,
    solver: Solver | AdaptiveSolver,
    times: Array,
    denoise: bool = True,
    constrain: Constraint | None = None,
) -> Samples:
    """Draw one sample of the given shape per key: the prior, carried from times[0] to times[-1], then denoised.

    times is a decreasing grid [N + 1] (solvers.grids); an adaptive solver uses its two ends. `denoise` replaces
    the last x by E[x_0 | x], one more evaluation. `constrain` projects after every step, on fixed grids alone.
    Sample k depends on keys[k] and nothing else, but for RK45 and DPMSolverAdaptive with one error norm for the batch.
    Pure: jit it whole.
    Raises ValueError for an adaptive solver with a constraint.
    """
    x = sde.prior_sample(child(keys, Purpose.PRIOR), shape)
    options = {"solver": solver, "times": times, "denoise": denoise, "constrain": constrain}
    return carried(child(keys, Purpose.STEPS), score, sde, x, **options)


def carried(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x: Array,
    *,
    solver: Solver | AdaptiveSolver,
    times: Array,
    denoise: bool = True,
    constrain: Constraint | None = None,
) -> Samples:
    """What `sample` does of x [B, ...] at times[0], whatever it is: carried to times[-1], then denoised.

    Raises ValueError for an adaptive solver with a constraint.
    """
    if isinstance(solver, AdaptiveSolver):
        if constrain is not None:
            raise ValueError("an adaptive solver takes no constraint: choose a fixed-grid solver")
        x, evaluations = solver.solve(keys, sde, score, x, times[0], times[-1])
    else:
        x, _ = _march(keys, score, sde, x, solver, times, constrain)
        evaluations = jnp.int32((len(times) - 1) * solver.evaluations)
    if denoise:
        x, evaluations = denoiser(sde, score)(x, times[-1]), evaluations + 1
    return Samples(x, evaluations)


def trajectory(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    shape: tuple[int, ...],
    *,
    solver: Solver,
    times: Array,
    constrain: Constraint | None = None,
) -> Array:
    """x [N + 1, B, ...] at every node of the grid, from the prior's draw to what `sample` has before it denoises.

    The arguments are those of `sample`, and so are the numbers; the solver is one of a fixed grid. All the states are
    kept in memory.
    """
    x = sde.prior_sample(child(keys, Purpose.PRIOR), shape)
    step_keys = child(keys, Purpose.STEPS)
    _, later = _march(step_keys, score, sde, x, solver, times, constrain, keep=True)
    return jnp.concatenate([x[None], later])


def _march(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x: Array,
    solver: Solver,
    times: Array,
    constrain: Constraint | None,
    keep: bool = False,
) -> tuple[Array, Any]:
    """Every step of a fixed-grid solver in one scan: the last x and, where they are kept, all [N, B, ...]."""

    def body(carry: tuple, node: tuple[Array, Array, Array]) -> tuple[tuple, Array | None]:
        x, memory = carry
        i, t, s = node
        here = child(keys, i)
        x, _, memory = solver.step(here, sde, score, x, t, s, memory)
        if constrain is not None:
            x = constrain(child(here, Purpose.CONSTRAINT), x, s)
        return (x, memory), x if keep else None

    nodes = (jnp.arange(len(times) - 1), times[:-1], times[1:])
    (x, _), kept = jax.lax.scan(body, (x, solver.init(sde, x, times)), nodes)
    return x, kept
