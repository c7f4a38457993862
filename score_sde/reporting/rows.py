"""Which solvers a report compares, each with as many steps as a budget of network evaluations allows."""

import dataclasses
from typing import Any, NamedTuple

import jax

from score_sde.config import SCHEMA, Config, default
from score_sde.config.automatic import KEPT
from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment import Experiment
from score_sde.experiment.building import reconfigured
from score_sde.solvers import AdaptiveSolver

BUDGETS = (5, 10, 20, 50)
"""Network evaluations per sample, the final denoising included: a report's columns."""

CANDIDATES = (
    "auto",
    "ancestral",
    "dpm_solver_pp_2m",
    "ddim",
    "euler_maruyama",
    "heun",
    "unipc_3",
    "euler",
    "reverse_diffusion",
)
"""Solvers in order of preference: a report's rows are the first ROWS that the config's SDE and model allow."""

ROWS = 5

AFFORDABLE = 250
"""Evaluations up to which the config's own way of sampling is drawn too, an adaptive solver's never counted ahead."""


class Row(NamedTuple):
    """A solver, and the experiment that samples with it for every budget that it can keep."""

    name: str
    cells: dict[int, Experiment]

    def fields(self, budget: int) -> dict[str, Any]:
        """Those of the `sampling` section that make the solver: its word, and but for steps what is not the default."""
        found = self.cells[budget].drawing.sampling.sampling
        apart = (*KEPT, "num_steps")
        own = {n: v for n, v in found.items() if n not in apart and v != SCHEMA[f"sampling.{n}"]}
        return {"solver": found.solver} | own

    def single(self, budget: int) -> bool:
        """Whether it takes one evaluation in a step, on a grid of as many steps as are asked for."""
        cell = self.cells[budget]
        solver = cell.solver({})
        return not cell.config.sde.discrete and not isinstance(solver, AdaptiveSolver) and solver.evaluations == 1


def rows(experiment: Experiment) -> list[Row]:
    """The solvers to compare, those left out that validation refuses or that no budget is enough for.

    auto stands for what it is where nothing has been measured.
    """
    experiment = dataclasses.replace(experiment, drawing=dataclasses.replace(experiment.drawing, best=None))
    found = (Row(name, _cells(experiment, name)) for name in CANDIDATES)
    return [row for row in found if row.cells][:ROWS]


def own(experiment: Experiment) -> Experiment | None:
    """The experiment with its config's own way of sampling, None where that takes more than is affordable."""
    cost = evaluations(experiment)
    return None if cost is not None and cost > AFFORDABLE else experiment


def variant(experiment: Experiment, solver: str, **sampling: Any) -> Experiment | None:
    """The experiment with another solver, the rest of the `sampling` section as by default; None where it is refused.

    The grid is equally spaced in log-SNR, or made of the levels of a model that knows no others.
    """
    config: Config = experiment.config.copy_and_resolve_references()
    old, c = experiment.config.sampling, config.sampling
    c.update(default().sampling)
    c.update({name: old[name] for name in KEPT}, solver=solver, times="levels" if config.sde.discrete else "log_snr")
    c.update(sampling)
    if solver == "ancestral":
        c.variance = old.variance
    try:
        validate(config)
    except UsageError:
        return None
    return reconfigured(experiment, config)


def evaluations(experiment: Experiment) -> int | None:
    """Network evaluations per sample on the config's grid, None for an adaptive solver."""
    solver = experiment.solver({})  # its parameters are read when it is called
    if isinstance(solver, AdaptiveSolver):
        return None
    return _intervals(experiment) * solver.evaluations + experiment.config.sampling.denoise


def _intervals(experiment: Experiment) -> int:
    """Steps on the config's grid, which is not made for it."""
    c = experiment.drawing.sampling.sampling
    # Only an optimised grid asks the network.
    return c.num_steps if c.times == "optimised" else jax.eval_shape(lambda: experiment.times({})).shape[0] - 1


def steps_within(budget: int, per_step: int, denoise: bool) -> int:
    """The most steps that a budget of evaluations allows, the denoising counted; 0 where it allows none."""
    return max(0, (budget - denoise) // per_step)


def _cells(experiment: Experiment, solver: str) -> dict[int, Experiment]:
    one = variant(experiment, solver, num_steps=2)
    cost = evaluations(one) if one else None
    if one is None or cost is None:
        return {}
    denoise = one.config.sampling.denoise
    intervals = _intervals(one)  # a grid of levels has one fewer than num_steps
    cells = {}
    for budget in BUDGETS:
        steps = steps_within(budget, (cost - denoise) // intervals, denoise)
        cell = variant(experiment, solver, num_steps=steps + 2 - intervals) if steps else None
        if cell is not None:
            cells[budget] = cell
    return cells
