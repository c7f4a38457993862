"""UniPC in its published forms (Zhao et al. 2023, arXiv 2302.04867), which differ from the exact one at low order."""

import dataclasses

import jax.numpy as jnp

from score_sde.solvers.exponential import Data, Frame, Node, Prediction, moments
from score_sde.solvers.exponential_adams import adams_bashforth, adams_moulton, correction, places, steps
from score_sde.solvers.multistep import LowerFinal, Multistep, Table, chosen, orders
from score_sde.typing import Array


@dataclasses.dataclass(frozen=True)
class UniPC(Multistep):
    """A predictor and a corrector through the same outputs, with the step function B(h) = h (bh1) or e^h - 1 (bh2).

    Where a single difference D of outputs is left to weight, the published code takes B(h) / 2 D instead of the
    exponential integral: in the predictor of order 2 and the corrector of order 1. Otherwise B cancels and both are
    the exponential Adams methods. The last steps are of lower order.
    """

    order: int = 3
    prediction: Prediction = dataclasses.field(default_factory=Data)
    exponential: bool = True
    """bh2; False is bh1."""

    lower_final: LowerFinal = True

    def table(self, nodes: Node) -> Table:
        frame, order = steps(self.prediction, nodes), orders(len(nodes.t) - 1, self.order, self.lower_final)
        width = range(1, self.order + 1)
        predictors = [adams_bashforth(nodes, frame, p) for p in width]
        correctors = [adams_moulton(nodes, frame, p) for p in width]
        correctors[0] = self._halved(frame, jnp.ones_like(frame.h), new_first=True)
        if self.order > 1:
            predictors[1] = self._halved(frame, places(nodes, 2)[:, 1], new_first=False)
        outputs = -frame.scale[:, None] * chosen(order, predictors, self.order)
        corrector = -frame.scale[:, None] * chosen(order, correctors, self.order + 1)
        return Table(frame.ratio, outputs, frame.noise, correction(corrector, outputs))

    def _halved(self, frame: Frame, place: Array, new_first: bool) -> Array:
        """E_1 m_0 + B / 2 (m - m_0) / place as weights of (m, m_0), or of (m_0, m)."""
        first = moments(frame.h, 1)[:, 0]
        other = 0.5 * (first if self.exponential else frame.h) / place
        pair = (other, first - other) if new_first else (first - other, other)
        return jnp.stack(pair, -1)
