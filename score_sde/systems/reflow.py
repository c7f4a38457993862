"""Rectified flow on pairs of noise and sample: straighter lines, for fewer steps (Liu et al. 2022)."""

import dataclasses

from score_sde.objectives.denoising import Reduction, Times, Weighting, denoising_loss_at, difference, mean
from score_sde.systems.base import Condition, Params
from score_sde.systems.score import Score
from score_sde.systems.teacher import PART
from score_sde.training.step import View
from score_sde.typing import Array, Keys

NOISE = "noise"
"""The condition that is an example's own noise [B, ...]."""


@dataclasses.dataclass(frozen=True)
class Reflow(Score):
    """A score system whose every example x comes with the noise z that its teacher's ODE carries to it.

        loss = weight(t) reduce((sigma s(x_t, t) + z)^2),  x_t = alpha x + sigma z,

    the score system's with z = condition["noise"] in the place of a fresh one. Its flow keeps the law of the teacher's
    samples, and its lines cross less than those of independent pairs: on sde.Straight they are straighter, and on
    Gaussian data straight, so that one Euler step is exact. Whatever a score system does, this one does.
    Source: Liu et al. 2022 (arXiv 2209.03003), algorithm 1 and theorem 3.5.
    """

    times: Times = dataclasses.field(kw_only=True)
    weighting: Weighting = difference
    reduction: Reduction = mean
    frozen: tuple[str, ...] = (PART,)

    def losses(
        self, params: Params, view: View, keys: Keys, x0: Array, condition: Condition, u: Array, training: bool = True
    ) -> tuple[Array, dict[str, Array]]:
        """The loss of every example [B] at quantiles u of the law of t; the teacher is not asked again."""
        told = {name: value for name, value in condition.items() if name != NOISE}
        told = self.with_dropped(keys, told, training)
        t, ratio = self.times(self.process, u)
        model = self.model(params, told, self.dropout_keys(keys, training), **self.trained())
        options = {"weighting": self.weighting, "reduction": self.reduction}
        score = lambda x, t: model(x, t)[0]
        return ratio * denoising_loss_at(score, self.process, x0, t, condition[NOISE], **options), {}
