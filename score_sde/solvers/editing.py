"""Editing: examples noised to some level and sampled back from there, whole or but for what is to stay.

Of low levels little is changed, of high ones little is left. Where the data are Gaussian the law of the result is known
(sde.conditioning.edited), as long as the way back is one of the reverse-time SDE: the probability flow takes the noise
back out that was put in. Source: Meng et al. 2022 (SDEdit); Nie et al. 2022 (DiffPure).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE, noised
from score_sde.solvers.base import AdaptiveSolver, Solver
from score_sde.solvers.sampling import Samples, carried
from score_sde.typing import Array, Keys, ScoreFn


@dataclasses.dataclass(frozen=True)
class Kept:
    """A constraint for a solver: where the mask is 1, x is the example noised to its time, by one z for all times.

    example and z [B, ...]; mask of a shape that goes with them. Source: Meng et al. 2022, algorithm 3.
    """

    sde: SDE
    example: Array
    mask: Array
    z: Array

    def __call__(self, keys: Keys, x: Array, s: Array) -> Array:
        return self.put(x, noised(self.sde, self.example, s, self.z))

    def put(self, x: Array, known: Array) -> Array:
        """x with what is known where the mask is 1, [B, ...]."""
        return jnp.where(self.mask != 0, known, x)


def edit(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x: Array,
    *,
    solver: Solver | AdaptiveSolver,
    times: Array,
    keep: Array | None = None,
    repeats: int = 1,
    denoise: bool = True,
) -> Samples:
    """SDEdit of examples x [B, ...]: noised to the level of times[0], then sampled down to times[-1] and denoised.

    times: what grids.below leaves of a grid. keep: 1 for the pixels that stay, 0 for the others, of a shape that goes
    with x; they are exact in the result. repeats: the result is edited again so often, from the same level. The score
    may be one of what is asked for. Sample k depends on keys[k] and x[k] alone; differentiable end to end with a solver
    of a fixed grid. Evaluations are those of all repeats. Raises UsageError for a `keep` that does not fit, and for one
    with an adaptive solver. Source: Meng et al. 2022, algorithms 2 and 3.
    """
    if keep is not None:
        _check_mask(keep, x, solver)

    def once(x: Array, i: Array) -> tuple[Array, Array]:
        here = child(keys, i)
        z = normal(child(here, Purpose.PRIOR), x.shape[1:], x.dtype)
        kept = None if keep is None else Kept(sde, x, keep, z)
        options = {"solver": solver, "times": times, "denoise": denoise, "constrain": kept}
        found = carried(child(here, Purpose.STEPS), score, sde, noised(sde, x, times[0], z), **options)
        return (found.x if kept is None else kept.put(found.x, x)), found.evaluations

    x, evaluations = jax.lax.scan(once, x, jnp.arange(repeats))
    return Samples(x, jnp.sum(evaluations, 0, dtype=evaluations.dtype))


class Purified(NamedTuple):
    """Purified examples x [B, ...]; whether a classifier is right of them, and of what they were made of, bool [B]."""

    x: Array
    correct: Array
    correct_before: Array


def purify(
    keys: Keys,
    score: ScoreFn,
    sde: SDE,
    x: Array,
    label: Array,
    classify: Callable[[Array], Array],
    *,
    solver: Solver | AdaptiveSolver,
    times: Array,
) -> Purified:
    """DiffPure: `edit`, and what a classifier makes of the examples x [B, ...] before and after, label int [B].

    classify: x [B, ...] -> logits [B, K]. x as they are given, perturbed or not: the share of `correct` is the accuracy
    under that perturbation and no other. It is no bound: attacks adapt, and one that knows of the purification, and
    takes gradients through it and means over its noise, finds worse perturbations than one that does not. Source: Nie
    et al. 2022.
    """
    clean = edit(keys, score, sde, x, solver=solver, times=times).x
    right = lambda x: jnp.argmax(classify(x), -1) == label
    return Purified(clean, right(clean), right(x))


def _check_mask(keep: Array, x: Array, solver: Solver | AdaptiveSolver) -> None:
    fits = keep.ndim == x.ndim and all(n in (1, size) for n, size in zip(keep.shape, x.shape, strict=True))
    require(
        fits,
        f"keep has shape {keep.shape}: of examples of shape {x.shape} give that shape, or 1 for axes along which it is"
        " the same",
    )
    require(not isinstance(solver, AdaptiveSolver), "keep is for solvers on a grid, not for an adaptive one")
