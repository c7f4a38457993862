"""What a network is told of the noise level where the schedule itself is learned (Kingma et al. 2021)."""

import dataclasses

from score_sde.sde import SDE
from score_sde.typing import Array


@dataclasses.dataclass(frozen=True)
class GammaLabel:
    """1000 (gamma - low) / (high - low), gamma = -log_snr, shape of t: a function of the noise level alone.

    For a positional embedding; low and high are where a schedule begins that is learned. Source: Kingma et al. 2021
    (arXiv 2107.00630), appendix C.
    """

    low: float
    high: float

    def __call__(self, sde: SDE, t: Array) -> Array:
        return 1000 * (-sde.log_snr(t) - self.low) / (self.high - self.low)
