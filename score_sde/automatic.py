"""sampling.solver="auto": which solver and grid for an SDE and a number of network evaluations, from measured results.

The measurements: docs/solvers.md, made by benchmarks/solvers.py.
"""

from typing import Any

CHOICES: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    "vp": ((0, {"solver": "adams_3", "times": "quadratic"}),),
    "subvp": ((0, {"solver": "adams_3", "times": "quadratic"}),),
    "ve": ((0, {"solver": "adams_3", "times": "karras", "rho": 20.0}),),
    "edm": ((0, {"solver": "adams_3", "times": "karras", "rho": 20.0}),),
}
"""By SDE: from so many evaluations on, the fields of the config's `sampling` section that differ."""


def choose(sde: str, evaluations: int, denoise: bool) -> dict[str, Any]:
    """The fields of the `sampling` section that spend at most so many evaluations, the final denoising among them."""
    fields = [fields for least, fields in CHOICES[sde] if evaluations >= least][-1]
    return {**fields, "corrector": "none", "num_steps": max(1, evaluations - denoise)}
