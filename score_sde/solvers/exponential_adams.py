"""Exponential Adams methods: the integral of the polynomial through the last outputs, exact in its linear part."""

import dataclasses

import jax.numpy as jnp

from score_sde.solvers.exponential import Frame, Node, Noise, Prediction, moments
from score_sde.solvers.multistep import LowerFinal, Multistep, Table, chosen, earlier, interpolation, orders
from score_sde.typing import Array


@dataclasses.dataclass(frozen=True)
class ExponentialAdams(Multistep):
    """x_s = ratio x_t - scale int (polynomial of degree order - 1 through the last outputs), global order `order`.

    prediction Noise: DEIS on the logarithm of sigma / alpha (Zhang & Chen 2022, tAB-DEIS; order 1 is DDIM). Data:
    what DPM-Solver++'s multistep forms approximate; with churn the predictor of SA-Solver (Xue et al. 2023), of order 1
    the exponential Euler-Maruyama method. `corrected` mends x by the implicit method with the output at s once that is
    known, for one order more (UniPC, Zhao et al. 2023, in its exact form; SA-Solver's corrector). lower_final: the last
    steps are of lower order; a number: on grids of fewer steps than that.
    """

    order: int = 3
    prediction: Prediction = dataclasses.field(default_factory=Noise)
    corrected: bool = False
    lower_final: LowerFinal = False

    def table(self, nodes: Node) -> Table:
        frame, order = steps(self.prediction, nodes), orders(len(nodes.t) - 1, self.order, self.lower_final)
        weights = chosen(order, [adams_bashforth(nodes, frame, p) for p in range(1, self.order + 1)], self.order)
        outputs = -frame.scale[:, None] * weights
        if not self.corrected:
            return Table(frame.ratio, outputs, frame.noise)
        implicit = [adams_moulton(nodes, frame, p) for p in range(1, self.order + 1)]
        corrector = -frame.scale[:, None] * chosen(order, implicit, self.order + 1)
        return Table(frame.ratio, outputs, frame.noise, correction(corrector, outputs))


def steps(prediction: Prediction, nodes: Node) -> Frame:
    """The frames of all steps of a grid."""
    return prediction.frame(Node(*(a[:-1] for a in nodes)), Node(*(a[1:] for a in nodes)))


def places(nodes: Node, count: int) -> Array:
    """Where the last `count` nodes lie, in log-SNR, as multiples of the step: 0 and negative numbers [N, count]."""
    here = nodes.log_ratio[:-1]
    step = nodes.log_ratio[1:] - here
    return jnp.stack([(earlier(here, j) - here) / step for j in range(count)], -1)


def adams_bashforth(nodes: Node, frame: Frame, order: int) -> Array:
    """Weights [N, order] of the last outputs in the step's integral."""
    return interpolation(places(nodes, order), moments(frame.h, order))


def adams_moulton(nodes: Node, frame: Frame, order: int) -> Array:
    """Weights [N, order + 1] of the output at the step's end, then of the last ones."""
    points = places(nodes, order)
    return interpolation(jnp.concatenate([jnp.ones_like(points[:, :1]), points], -1), moments(frame.h, order + 1))


def correction(corrector: Array, predictor: Array) -> Array:
    """What corrector [N, K + 1] minus predictor [N, K] of a step adds before the next one: [N, K + 1], 0 at first."""
    difference = corrector - jnp.pad(predictor, ((0, 0), (1, 0)))
    return jnp.concatenate([jnp.zeros_like(difference[:1]), difference[:-1]])
