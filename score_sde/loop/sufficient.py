"""Whether the data are enough for what is asked of them, before a run is trained that they are too few for."""

import math

import numpy as np

from score_sde.data.sources import some
from score_sde.errors import require
from score_sde.experiment import Experiment

LOOKED_AT = 100
"""Training examples, a fixed choice, that are looked at for differences."""


def check_sufficient(experiment: Experiment) -> list[str]:
    """Sentences about what figures will lack; UsageError where evaluation.final_samples could not be evaluated."""
    count, wanted = len(experiment.data.train), experiment.config.evaluation.final_samples
    require(
        count > 1 or not wanted,
        f"evaluation.final_samples={wanted} compares samples with the covariance of the training examples, and there is"
        " one: set evaluation.final_samples=0, or give 2 examples or more",
    )
    lines, size = [], math.prod(experiment.shape)
    if wanted and min(count, wanted) <= size:
        lines.append(
            f"{min(count, wanted)} {'samples' if wanted < count else 'training examples'} are no more than the {size}"
            " dimensions of one: their covariance is singular, so the final Fréchet distance says little, and compares"
            " with none of other numbers"
        )
    if alike := _alike(some(experiment.data.train, LOOKED_AT)):
        lines.append(f"training examples: {alike} ({min(count, LOOKED_AT)} looked at)")
    return lines


def _alike(examples: np.ndarray) -> str:
    """In words, what does not differ within examples [n, ...] or between them; "" where all does."""
    if examples.min() == examples.max():
        return f"every value is {examples.min()}"
    if len(examples) > 1 and (examples == examples[:1]).all():
        return "all pictures are the same"
    if examples.ndim < 4:
        return ""
    flat = examples.reshape(-1, examples.shape[-1])
    constant = np.flatnonzero(flat.min(0) == flat.max(0))
    return f"channel {', '.join(map(str, constant))} is constant" if len(constant) else ""
