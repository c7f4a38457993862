"""sampling.solver="auto": which solver and grid for an SDE and a number of network evaluations, from measured results.

The measurements: docs/solvers.md, made by benchmarks/solvers.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

ENOUGH = 18
"""Evaluations from which the third order pays on learned scores: below, its steps are too long for their noise."""

_QUADRATIC = ((0, {"solver": "unipc_2", "times": "quadratic"}), (ENOUGH, {"solver": "adams_3", "times": "quadratic"}))
_KARRAS = (
    (0, {"solver": "unipc_2", "times": "karras", "rho": 20.0}),
    (ENOUGH, {"solver": "adams_3", "times": "karras", "rho": 20.0}),
)
CHOICES: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    "vp": _QUADRATIC,
    "subvp": _QUADRATIC,
    "ve": _KARRAS,
    "edm": _KARRAS,
}
"""By SDE: from so many evaluations on, the fields of the config's `sampling` section that differ."""


class Choice(NamedTuple):
    """Fields of the `sampling` section, steps included; measured: the step of the run that they were measured at."""

    fields: dict[str, Any]
    measured: int | None

    def __str__(self) -> str:
        by = "by the table of docs/solvers.md" if self.measured is None else f"measured on this run at {self.measured}"
        return f"auto: {', '.join(f'{n}={v}' for n, v in self.fields.items())} ({by})"


def choose(sde: str, evaluations: int, denoise: bool, measured: Mapping[str, Any] | None = None) -> Choice:
    """What spends at most so many evaluations, the final denoising among them: the run's own best, else the table's.

    measured: what a report has found, {"step": ..., "best": {evaluations: fields of the section}}; the most evaluations
    that are at most those asked for count.
    """
    own = {int(n): fields for n, fields in (measured or {}).get("best", {}).items() if int(n) <= evaluations}
    fields = own[max(own)] if own else [fields for least, fields in CHOICES[sde] if evaluations >= least][-1]
    steps = {"corrector": "none", "num_steps": max(1, evaluations - denoise)}
    return Choice({**fields, **steps}, measured["step"] if own and measured else None)
