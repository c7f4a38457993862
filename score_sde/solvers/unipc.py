"""UniPC in its published forms (Zhao et al. 2023, arXiv 2302.04867), which differ from the exact one."""

import dataclasses

import jax.numpy as jnp

from score_sde.solvers.exponential import Data, Frame, Node, Prediction, moments
from score_sde.solvers.exponential_adams import adams_bashforth, adams_moulton, correction, places, steps
from score_sde.solvers.multistep import LowerFinal, Multistep, Table, chosen, interpolation, orders
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


@dataclasses.dataclass(frozen=True)
class UniPCVaryCoeff(Multistep):
    """UniPC's "vary_coeff" as its code has it: exponential Adams predictors, correctors that leave terms out.

    With D_j = (m_j - m_0) / r_j at the places r_j of the outputs, the new one's r = 1, the paper's corrector of order p
    is sum_k (k + 1)! E_{k+2} c_k, where sum_k c_k u^k, k < p, goes through the D_j: that of ExponentialAdams. From
    p = 2 on the code takes of the earlier outputs k < p - 1 alone, and of the new one (p - 1)! E_{p+1} for k = p - 2
    alone, which leaves the whole at order 1. Source: Zhao et al. 2023, UniPC_v, and its code's behaviour.
    """

    order: int = 3
    prediction: Prediction = dataclasses.field(default_factory=Data)
    lower_final: LowerFinal = True

    def table(self, nodes: Node) -> Table:
        frame, order = steps(self.prediction, nodes), orders(len(nodes.t) - 1, self.order, self.lower_final)
        width = range(1, self.order + 1)
        predictors = [adams_bashforth(nodes, frame, p) for p in width]
        correctors = [_cut_adams_moulton(nodes, frame, p) for p in width]
        outputs = -frame.scale[:, None] * chosen(order, predictors, self.order)
        corrector = -frame.scale[:, None] * chosen(order, correctors, self.order + 1)
        return Table(frame.ratio, outputs, frame.noise, correction(corrector, outputs))


def _cut_adams_moulton(nodes: Node, frame: Frame, order: int) -> Array:
    """Weights [N, order + 1] of the output at the step's end, then of the last ones, without the terms left out."""
    before, integrals = places(nodes, order)[:, 1:], moments(frame.h, order + 1)
    points = jnp.concatenate([jnp.ones_like(integrals[:, :1]), before], -1)
    one = jnp.zeros_like(points).at[:, max(order - 2, 0)].set(integrals[:, order] / order)
    new = interpolation(points, one)[:, :1]
    others = interpolation(points, integrals[:, 1:].at[:, -1].set(0.0))[:, 1:] / before
    return jnp.concatenate([new, integrals[:, :1] - new - others.sum(-1, keepdims=True), others], -1)
