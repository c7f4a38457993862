"""sampling.solver="auto": which solver and grid for an SDE and a number of network evaluations, from measured results.

The measurements: docs/solvers.md, made by benchmarks/solvers.py.
"""

from typing import Any

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


def choose(sde: str, evaluations: int, denoise: bool) -> dict[str, Any]:
    """The fields of the `sampling` section that spend at most so many evaluations, the final denoising among them."""
    fields = [fields for least, fields in CHOICES[sde] if evaluations >= least][-1]
    return {**fields, "corrector": "none", "num_steps": max(1, evaluations - denoise)}
