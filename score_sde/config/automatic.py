"""sampling.solver="auto": which solver and grid for an SDE and a number of network evaluations, from measured results.

The measurements: docs/solvers.md, made by benchmarks/automatic.py on trained networks.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

_STRONG = {"solver": "sde_adams_2", "churn": 0.5, "lower_final": "always"}
"""Half the reverse SDE's noise, which mends what the network has wrong, and last steps that do not extrapolate it."""
CHOICES: dict[str, dict[str, Any]] = {
    "vp": {**_STRONG, "times": "quadratic"},
    "subvp": {**_STRONG, "times": "quadratic"},
    "ve": {**_STRONG, "times": "karras", "rho": 20.0},
    "edm": {**_STRONG, "times": "karras", "rho": 20.0},
}
"""By SDE: the fields of the config's `sampling` section that differ."""


class Choice(NamedTuple):
    """Fields of the `sampling` section, steps included; measured: the step of the run that they were measured at."""

    fields: dict[str, Any]
    measured: int | None

    def words(self) -> str:
        """The fields."""
        return ", ".join(f"{name}={value}" for name, value in self.fields.items())

    def __str__(self) -> str:
        run = f"the best of this run's report, at step {self.measured}"
        return f"auto: {self.words()} ({'by measurements on other runs' if self.measured is None else run})"


def choose(sde: str, evaluations: int, denoise: bool, measured: Mapping[str, Any] | None = None) -> Choice:
    """What spends at most so many evaluations, the final denoising among them: the run's own best, else the table's.

    measured: what a report has found, {"step": ..., "best": {evaluations: fields of the section}}; the most evaluations
    that are at most those asked for count.
    """
    own = {int(n): fields for n, fields in (measured or {}).get("best", {}).items() if int(n) <= evaluations}
    fields = own[max(own)] if own else CHOICES[sde]
    steps = {"corrector": "none", "num_steps": max(1, evaluations - denoise)}
    return Choice({**fields, **steps}, measured["step"] if own and measured else None)
