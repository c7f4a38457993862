"""Which solver of a report is best at a number of evaluations: what sampling.solver="auto" takes from then on."""

from collections.abc import Mapping, Sequence
from typing import Any

from score_sde.reporting.rows import Row
from score_sde.reporting.sections import Result, Results

LEAST = 10
"""Evaluations below which no choice is left to a measurement."""


def best(rows: Sequence[Row], results: Results) -> dict[str, dict[str, Any]]:
    """The fields of the `sampling` section by number of evaluations, of solvers that take one in a step."""
    found = {}
    for budget in sorted({b for row in rows for b in row.cells if b >= LEAST}):
        cells = {row.name: results[row.name][budget] for row in rows if budget in row.cells and row.single(budget)}
        fit = {name: r for name, r in cells.items() if r.distance is not None and r.error is not None}
        if len(fit) > 1:
            name = chosen(fit)
            found[str(budget)] = next(row for row in rows if row.name == name).fields(budget)
    return found


def chosen(cells: Mapping[str, Result]) -> str:
    """The least distance among those whose samples are no grainier than any others', to twice the errors.

    A distance in the pixels hardly sees the grain that an eye sees first.
    """
    clean = {name: r for name, r in cells.items() if not any(_grainier(r, other) for other in cells.values())}
    return min(clean, key=lambda name: cells[name].distance or 0.0)


def _grainier(r: Result, other: Result) -> bool:
    if r.grainy is None or other.grainy is None:
        return False
    (share, error), (less, of_less) = r.grainy, other.grainy
    return share - less > 2 * (error**2 + of_less**2) ** 0.5
