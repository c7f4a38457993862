"""Linear multistep methods: each step combines x with the network's outputs at this node and those before it.

    x_s = x[i] x_t + sum_j outputs[i, j] m_{i-j} + noise[i] z
All coefficients follow from the grid alone: `init` computes the tables of all steps at once, a step reads its row. A
corrector mends x at the node that a step arrived at, once the network has been evaluated there, at no further cost.
"""

import abc
from typing import NamedTuple

import jax.numpy as jnp

from score_sde.rng import Purpose, child, normal
from score_sde.sde import SDE
from score_sde.solvers.base import Memory, Solver, Step
from score_sde.solvers.exponential import Node, Prediction, node
from score_sde.typing import Array, Keys, ScoreFn


class Table(NamedTuple):
    """Coefficients of all N steps; the newest output comes first."""

    x: Array  # [N]
    outputs: Array  # [N, K]
    noise: Array  # [N]
    correction: Array | None = None
    """[N, K + 1]: of m_i, m_{i-1}, ..., added to x before step i; None without a corrector."""


class _Memory(NamedTuple):
    i: Array
    outputs: tuple[Array, ...]
    table: Table


class Multistep(Solver):
    """A linear multistep method: a subclass states its table. One network evaluation per step.

    Of the memory, `outputs` are the network's, newest first.
    """

    order: int
    """Outputs that a step combines."""

    prediction: Prediction

    @property
    def evaluations(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 1

    @abc.abstractmethod
    def table(self, nodes: Node) -> Table:
        """The coefficients for a grid of N + 1 nodes."""

    def init(self, sde: SDE, x: Array, times: Array) -> Memory:
        table = self.table(node(sde, times))
        kept = self.order - (table.correction is None)
        return _Memory(jnp.int32(0), (jnp.zeros_like(x),) * kept, table)

    def step(self, keys: Keys, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory) -> Step:
        noisy = self.prediction.noisy
        z = normal(child(keys, Purpose.NOISE), x.shape[1:], x.dtype) if noisy else None
        return self.given(sde, score, x, t, s, memory, z)

    def given(
        self, sde: SDE, score: ScoreFn, x: Array, t: Array, s: Array, memory: Memory, z: Array | None = None
    ) -> Step:
        """The step from t to s given its noise z [B, ...]; None for the noiseless methods."""
        i, before, table = memory
        outputs = (self.prediction.output(sde, score, x, t), *before)
        if table.correction is not None:
            x = x + combine(table.correction[i], outputs)
        mean = table.x[i] * x + combine(table.outputs[i], outputs)
        after = _Memory(i + 1, outputs[: len(before)], table)
        return Step(mean if z is None else mean + table.noise[i] * z, mean, after)


def combine(coefficients: Array, outputs: tuple[Array, ...]) -> Array:
    """Their weighted sum [B, ...]: coefficients [K] of outputs [B, ...]."""
    return sum((c * m for c, m in zip(coefficients, outputs)), start=jnp.zeros_like(outputs[0]))


LowerFinal = bool | int
"""Whether the last steps are of order 2, then 1; a number: on grids of fewer steps than that."""


def orders(count: int, highest: int, lower_final: LowerFinal = False) -> Array:
    """The order of each of N steps [N]: as many outputs as there are; with lower_final, down to 1 in the last step."""
    i = jnp.arange(count)
    found = jnp.minimum(highest, i + 1)
    lowered = lower_final if isinstance(lower_final, bool) else count < lower_final
    return jnp.minimum(found, count - i) if lowered else found


def earlier(values: Array, back: int) -> Array:
    """values [N] of the step `back` before each; the first one's where there is none."""
    return values[jnp.maximum(jnp.arange(len(values)) - back, 0)]


def interpolation(points: Array, moments: Array) -> Array:
    """Weights b [N, K] with sum_j b_j points_j^k = moments_k: the integral of the polynomial through K points [N, K].

    Lagrange's: the coefficients of each basis polynomial, times the moments of its powers.
    """
    count, weights = points.shape[-1], []
    for j in range(count):
        polynomial = [jnp.ones_like(points[:, 0])]  # lowest power first
        for k in range(count):
            if k == j:
                continue
            gap = points[:, j] - points[:, k]
            shifted = [jnp.zeros_like(gap), *polynomial]
            lowered = [-points[:, k] * c for c in polynomial] + [jnp.zeros_like(gap)]
            polynomial = [(a + b) / gap for a, b in zip(shifted, lowered)]
        weights.append(sum(c * moments[:, k] for k, c in enumerate(polynomial)))
    return jnp.stack(weights, -1)


def chosen(order: Array, tables: list[Array], width: int) -> Array:
    """Row i of tables[order_i - 1], each [N, its own width], filled up with zeros: [N, width]."""
    filled = [jnp.pad(t, ((0, 0), (0, width - t.shape[-1]))) for t in tables]
    found = filled[0]
    for p, table in enumerate(filled[1:], start=2):
        found = jnp.where(order[:, None] == p, table, found)
    return found
