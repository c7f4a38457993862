"""Why samples are not finite: what can be told at the price of one sample's way."""

from typing import Any

import jax
import numpy as np

from score_sde.config import Config
from score_sde.config.editing_checks import is_edited
from score_sde.config.sampling_checks import ADAPTIVE
from score_sde.devices.arrays import collect, replicate
from score_sde.devices.precision import at
from score_sde.experiment.experiment import Experiment
from score_sde.rng import example_keys, positions, root_key
from score_sde.solvers import Solver
from score_sde.solvers.sampling import trajectory
from score_sde.systems import Score


def nothing_finite(experiment: Experiment, params: Any, count: int) -> str:
    """The sentence about samples of which not one is finite; all processes call it."""
    c = experiment.config.sampling
    where = _where(experiment, params)
    return (
        f"not one of {count} samples of sampling.solver={c.solver!r} is a finite number{where}, so no samples and no"
        f" picture are written: {remedies(c)}"
    )


def remedies(sampling: Config) -> str:
    """What to try."""
    other = "euler_maruyama" if sampling.solver == "ancestral" else "ancestral"
    raw = "" if sampling.average == "raw" else "sampling.average='raw', "
    return (
        f"try {raw}sampling.solver={other!r}, more sampling.num_steps or a larger sampling.t_min; if all are alike, the"
        " weights are at fault: train on from an earlier checkpoint, or import them anew"
    )


def _where(experiment: Experiment, params: Any) -> str:
    """From which step on sample 0 is not finite; "" of edited ones, without a fixed grid, or not of a score's."""
    c, system = experiment.config.sampling, experiment.system
    if c.solver in ADAPTIVE or c.reference or is_edited(experiment.config) or not isinstance(system, Score):
        return ""

    def walk(params: Any, position: Any, condition: Any, seed: Any) -> Any:
        score, solver, _ = experiment.drawing.prepared(system, params, condition)
        times, keys = experiment.times(params), example_keys(root_key(seed), position)
        assert isinstance(solver, Solver)
        path = trajectory(keys, score, system.sde(params), system.shape, solver=solver, times=times)
        return path, times

    position = positions(0, 1)
    condition = jax.tree.map(np.asarray, experiment.conditions(position))
    program = jax.jit(at(c.precision, walk))
    path, times = collect(program(replicate(params), *replicate((position, condition)), np.uint32(c.seed)))
    bad = np.flatnonzero(~np.isfinite(path.reshape(len(path), -1)).all(1))
    if len(bad) == 0:
        return ", at its end alone"
    step = int(bad[0])
    return f", from step {step} of {len(times) - 1} on, which goes out from t={times[step - 1]:.4g}" if step else ""
