"""DPM-Solver and DPM-Solver++ in their published multistep and singlestep forms, for every linear SDE.

Sources: Lu et al. 2022, arXiv 2206.00927 (prediction Noise) and 2211.01095 (prediction Data).
"""

import dataclasses

import jax.numpy as jnp

from score_sde.sde import SDE
from score_sde.solvers.base import Deterministic
from score_sde.solvers.exponential import Data, Node, Prediction, moments, node
from score_sde.solvers.exponential_adams import places, steps
from score_sde.solvers.multistep import LowerFinal, Multistep, Table, chosen, orders
from score_sde.typing import Array, ScoreFn, expand


@dataclasses.dataclass(frozen=True)
class DPMSolverMultistep(Multistep):
    """2M and 3M: differences of the last outputs in place of the derivatives of m in log-SNR.

    2M weights the first difference by E_1 / 2, with taylor by E_2, which is the exact integral. 3M weights the second
    one by E_3 where the integral has 2 E_3, and so is of order 2 alone; ExponentialAdams(3) has the full weight.
    Data(churn) makes 2M the stochastic SDE-DPM-Solver++(2M), of the midpoint kind and, with taylor, of Heun's kind, and
    3M with taylor k-diffusion's 3M SDE.
    lower_final: the last steps are of lower order; 10, as in the published code: on grids of fewer steps than that.
    """

    order: int = 2
    prediction: Prediction = dataclasses.field(default_factory=Data)
    taylor: bool = False
    lower_final: LowerFinal = False

    def table(self, nodes: Node) -> Table:
        frame, order = steps(self.prediction, nodes), orders(len(nodes.t) - 1, self.order, self.lower_final)
        e1, e2, twice_e3 = (moments(frame.h, 3)[:, k] for k in range(3))
        tables = [e1[:, None]]
        if self.order > 1:
            slope = (e2 if self.taylor else 0.5 * e1) / -places(nodes, 2)[:, 1]
            tables.append(jnp.stack([e1 + slope, -slope], -1))
        if self.order > 2:
            tables.append(_third(places(nodes, 3), e1, e2, 0.5 * twice_e3))
        return Table(frame.ratio, -frame.scale[:, None] * chosen(order, tables, self.order), frame.noise)


def _third(place: Array, e1: Array, e2: Array, e3: Array) -> Array:
    """Weights [N, 3] of E_1 m + E_2 m' + E_3 m'' / 2 by divided differences at the places 0, -p, -p - q."""
    p, q = -place[:, 1], place[:, 1] - place[:, 2]
    # m' = (1 + w) (m_0 - m_1) / p - w (m_1 - m_2) / q with w = p / (p + q), and m'' / 2 = their difference / (p + q).
    first = (e2 * (1 + p / (p + q)) + e3 / (p + q)) / p
    second = -(e2 * p + e3) / (p + q) / q
    return jnp.stack([e1 + first, second - first, -second], -1)


@dataclasses.dataclass(frozen=True)
class DPMSolverSinglestep(Deterministic):
    """DPM-Solver-1, -2 and -3, DPM-Solver++(2S) and (3S): one step through order - 1 times in between.

    They lie at the given fractions of the step in log-SNR. The derivatives' weights are E_1 / 2 r (order 2) and E_2
    (order 3); taylor takes the exact ones, and at order 3 the second derivative.
    """

    order: int = 2
    prediction: Prediction = dataclasses.field(default_factory=Data)
    fractions: tuple[float, ...] = ()
    """1/2 for order 2, 1/3 and 2/3 for order 3, unless given."""

    taylor: bool = False

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.order

    def update(self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array) -> Array:
        return self.pair(sde, score, x, node(sde, t), node(sde, s))[1]

    def pair(self, sde: SDE, score: ScoreFn, x: Array, start: Node, end: Node) -> tuple[Array, Array]:
        """x [B, ...] at the end by the method of one order less, from the same evaluations, and by this one.

        The nodes are [] or [B]; order 0 leaves x as it is.
        """
        predict, d = self.prediction, end.log_ratio - start.log_ratio
        fractions = self.fractions or tuple(k / self.order for k in range(1, self.order))
        inner = [node(sde, sde.time(2 * (start.log_ratio + r * d))) for r in fractions]
        m, frame = predict.output(sde, score, x, start.t), predict.frame(start, end)
        first = predict.first_order(x, m, start, end)
        if self.order == 1:
            return x, first
        x1 = predict.first_order(x, m, start, inner[0])
        slope, e = (predict.output(sde, score, x1, inner[0].t) - m) / fractions[0], moments(frame.h, 3)
        weight = e[..., 1] if self.taylor else 0.5 * e[..., 0]
        second = first - expand(frame.scale * weight, x) * slope
        if self.order == 2:
            return first, second
        return second, first - expand(frame.scale, x) * self._third(sde, score, x, m, slope, start, inner[1], e)

    def _third(
        self, sde: SDE, score: ScoreFn, x: Array, m: Array, slope1: Array, start: Node, inner: Node, e: Array
    ) -> Array:
        """What order 3 adds to the integral of the step, after an evaluation at its second time in between."""
        predict, (r1, r2) = self.prediction, self.fractions or (1 / 3, 2 / 3)
        middle = predict.frame(start, inner)
        x2 = predict.first_order(x, m, start, inner)
        x2 -= expand(middle.scale * moments(middle.h, 2)[..., 1] * r2, x) * slope1
        slope2 = (predict.output(sde, score, x2, inner.t) - m) / r2
        if not self.taylor:
            return expand(e[..., 1], x) * slope2
        first, half_second = (r2 * slope1 - r1 * slope2) / (r2 - r1), (slope2 - slope1) / (r2 - r1)
        return expand(e[..., 1], x) * first + expand(e[..., 2], x) * half_second
