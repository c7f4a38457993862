"""Adams-Bashforth methods on the probability-flow ODE of y = x / alpha, in sigma / alpha or in its logarithm."""

import dataclasses

import jax.numpy as jnp

from score_sde.solvers.exponential import Node, Noise, Prediction
from score_sde.solvers.multistep import Multistep, Table, chosen, earlier, interpolation, orders


@dataclasses.dataclass(frozen=True)
class LinearMultistep(Multistep):
    """y_s = y_t + int eps d(sigma / alpha), eps a polynomial through the last outputs, on a grid as it comes.

    log_sigma: in the logarithm instead, where the integrand is sigma / alpha eps. In sigma / alpha the grid may end at
    sigma = 0. Source: k-diffusion's LMS, after Liu et al. 2022 (arXiv 2202.09778) and Karras et al. 2022.
    """

    order: int = 4
    log_sigma: bool = False
    prediction: Prediction = dataclasses.field(default_factory=Noise, init=False)

    def table(self, nodes: Node) -> Table:
        r = nodes.sigma / nodes.alpha
        place, factor = (-nodes.log_ratio, r) if self.log_sigma else (r, jnp.ones_like(r))
        here, step = place[:-1], place[1:] - place[:-1]
        order, tables = orders(len(step), self.order), []
        for p in range(1, self.order + 1):
            points = jnp.stack([(earlier(here, j) - here) / step for j in range(p)], -1)
            inverse = jnp.broadcast_to(1 / jnp.arange(1.0, p + 1, dtype=r.dtype)[None], points.shape)
            factors = jnp.stack([earlier(factor[:-1], j) for j in range(p)], -1)
            tables.append((nodes.alpha[1:] * step)[:, None] * interpolation(points, inverse) * factors)
        ratio = nodes.alpha[1:] / nodes.alpha[:-1]
        return Table(ratio, chosen(order, tables, self.order), jnp.zeros_like(ratio))
