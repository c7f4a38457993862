"""sampling.solver="auto": which solver and grid for an SDE and a number of network evaluations, from measured results.

The measurements: docs/solvers.md, made by benchmarks/automatic.py on trained networks and by benchmarks/solvers.py on
a mixture whose score is exact.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

CHOICES: dict[str, dict[str, Any]] = {
    "vp": {"times": "quadratic", "churn": 0.8},
    "subvp": {"times": "quadratic", "churn": 0.5},
    "ve": {"times": "log_snr", "churn": 1.3},
    "edm": {"times": "log_snr", "churn": 0.5},
    "straight": {"times": "uniform", "churn": 0.5},
    "polynomial": {"times": "quadratic", "churn": 0.5},
    "linear_vp": {"times": "quadratic", "churn": 0.5},
    "cosine": {"times": "uniform", "churn": 0.5},
}
"""By SDE: its grid, and how much of the reverse SDE's noise, which mends what a network has wrong, is added."""
FEW: dict[str, dict[str, Any]] = {
    "vp": {"solver": "dpm_solver_pp_2m_sde", "churn": 0.6},
    "edm": {"solver": "dpm_solver_pp_2m_sde", "churn": 0.2},
}
"""By SDE, what is otherwise where steps are long: less noise, which makes their errors larger, and the predictor of
SDE-DPM-Solver++(2M), which overshoots less. SDEs under which no network was measured with that stay as they are."""
KEPT = (
    "t_min", "denoise", "num_samples", "batch_size", "seed", "average", "label", "caption", "condition", "length",
)  # fmt: skip
"""Fields of the `sampling` section that belong to no solver: all others are auto's to choose."""
ENOUGH = 250
"""Evaluations from which on an answer to a measurement has all the noise that mends its score."""
MANY = 15
"""Evaluations from which on a third order pays."""
SHORT = 20
"""Evaluations from which on steps are short enough for all of the noise."""


class Choice(NamedTuple):
    """Fields of the `sampling` section, steps included; those that are missing and not in KEPT have their defaults.

    measured: the step of the run that they were measured at. fault: why the run's own measurements do not count.
    """

    fields: dict[str, Any]
    measured: int | None
    fault: str = ""

    def words(self) -> str:
        """The fields."""
        return ", ".join(f"{name}={value}" for name, value in self.fields.items())

    def __str__(self) -> str:
        run = f"the best of this run's report, at step {self.measured}"
        others = f"by measurements on other runs{self.fault and f': {self.fault}, --mode report makes it again'}"
        return f"auto: {self.words()} ({others if self.measured is None else run})"


def answering(evaluations: int, denoise: bool, unknown: float, std: float) -> Choice:
    """For samples that answer a measurement, by a posterior score that is not exact.

    Noise is put back about the data's standard deviation `std`, more of it the more there is both known and `unknown`:
    the share of the data's variance, mean over their dimensions, that a measurement leaves of Gaussian data. By
    benchmarks/inverse.py's mixtures.
    """
    churn = 1 + 12.8 * unknown * (1 - unknown) * min(1, evaluations / ENOUGH)
    fields = {"solver": "peaked_sde", "times": "peaked", "churn": round(churn, 3), "center": std}
    return Choice({**fields, "corrector": "none", "num_steps": max(1, evaluations - denoise)}, None)


def choose(sde: str, evaluations: int, denoise: bool, measured: Mapping[str, Any] | None = None) -> Choice:
    """What spends at most so many evaluations, the final denoising among them: the run's own best, else the table's.

    measured: what a report has found, {"step": ..., "best": {evaluations: fields of the section}}; the most evaluations
    that are at most those asked for count. Or why that cannot be read, {"fault": ...}.
    """
    measured = measured or {}
    few = FEW.get(sde, {}) if evaluations < SHORT else {}
    third = {"solver": "sde_adams_3"} if evaluations >= MANY else {}
    own = {int(n): fields for n, fields in measured.get("best", {}).items() if int(n) <= evaluations}
    table = {"solver": "sde_adams_2", "lower_final": "always", **CHOICES[sde], **few, **third}
    fields = own[max(own)] if own else table
    steps = {"corrector": "none", "num_steps": max(1, evaluations - denoise)}
    return Choice({**fields, **steps}, measured["step"] if own else None, measured.get("fault", ""))
