"""DDPM's discrete chain as a linear SDE, so that every solver, loss and likelihood applies to it; its schedules.

x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z, i = 0 .. N - 1 (Ho et al. 2020, eq. 2).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.errors import require
from score_sde.sde.base import one_minus_exp
from score_sde.sde.linear import VariancePreserving
from score_sde.typing import Array, Time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VPChain(VariancePreserving):
    """The VP SDE that passes through DDPM's chain; make one with `vp_chain`.

    At the nodes t_i = (i + 1) / N its marginal is the chain's x_i, alpha^2 = prod_{j <= i} (1 - beta_j); its exact
    kernel from one node to the next is the chain's N(sqrt(1 - beta) x, beta I). Between nodes B(t) is linear, so that
    every solver applies (an adaptive one takes smaller steps over the kinks of few levels). `integral` [N + 1] holds B
    at 0 and at the nodes.
    """

    integral: Array
    T: float = 1.0

    @property
    def num_scales(self) -> int:
        """N, the number of the chain's steps."""
        return len(self.integral) - 1

    def beta(self, t: Time) -> Array:
        return self._piece(t)[1] * (self.num_scales / self.T)

    def integrated_beta(self, t: Time) -> Array:
        low, rise, fraction = self._piece(t)
        return low + rise * fraction

    def between(self, step: Array, share: Array) -> Time:
        """The time, shape of both, at which alpha is a + share (b - a), a and b those at nodes `step` and `step` + 1.

        As B is linear there, B = B(a) - 2 log(1 + share (b / a - 1)).
        """
        table = jnp.asarray(self.integral, share.dtype)
        rise = table[step + 1] - table[step]
        fraction = -2 * jnp.log1p(-share * one_minus_exp(0.5 * rise)) / rise
        return (step.astype(share.dtype) + fraction) * (self.T / self.num_scales)

    def _piece(self, t: Time) -> tuple[Array, Array, Array]:
        """B at the node below t, its rise to the node above, how far t is in between; shapes of t."""
        t = jnp.asarray(t, dtype=float if isinstance(t, float | int) else None)
        table, place = jnp.asarray(self.integral, t.dtype), t * (self.num_scales / self.T)
        # A compiler that computes this twice may round a node up once and down once: both must find the piece below it.
        under = place * (1 - 4 * jnp.finfo(place.dtype).eps)
        below = jnp.clip(jnp.ceil(under) - 1, 0, self.num_scales - 1).astype(jnp.int32)
        return table[below], table[below + 1] - table[below], place - below.astype(t.dtype)

    def _time_of_integrated_beta(self, b: Array) -> Array:
        nodes = jnp.linspace(0, self.T, self.num_scales + 1, dtype=b.dtype)
        return jnp.interp(b, jnp.asarray(self.integral, b.dtype), nodes)


def linear_betas(num_scales: int = 1000, beta_min: float = 0.1, beta_max: float = 20.0) -> np.ndarray:
    """DDPM's schedule, beta_i from beta_min / N to beta_max / N in equal steps [N] (Ho et al. 2020)."""
    return np.linspace(beta_min / num_scales, beta_max / num_scales, num_scales)


def cosine_betas(num_scales: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """1 - abar(t_{i+1}) / abar(t_i) with abar(t) = cos^2((t + s) / (1 + s) pi / 2), t_i = i / N, clipped [N].

    Source: Nichol & Dhariwal 2021, eq. 17.
    """
    abar = np.cos((np.linspace(0, 1, num_scales + 1) + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - abar[1:] / abar[:-1], largest)


def polynomial_betas(num_scales: int = 1001, power: float = 2.0, least: float = 1e-5) -> np.ndarray:
    """1 - abar_i / abar_{i-1} with abar_i = (1 - 2 s) (1 - (i / (N - 1))^p)^2 + s, i = 0 .. N - 1, abar_{-1} = 1 [N].

    Before s is put in, ratios below 0.001 are raised to it. Source: Hoogeboom et al. 2022 (arXiv 2203.17003), appendix
    B, N - 1 = 1000 and p = 2.
    """
    squares = (1 - (np.arange(num_scales) / (num_scales - 1)) ** power) ** 2
    abar = np.cumprod(np.clip(squares / np.concatenate([[1.0], squares[:-1]]), 0.001, 1))
    abar = (1 - 2 * least) * abar + least
    return 1 - abar / np.concatenate([[1.0], abar[:-1]])


def long_step_betas(
    num_scales: int = 4, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3
) -> np.ndarray:
    """1 - abar(t_{i+1}) / abar(t_i), abar = e^{-B} of the VP SDE, t_i evenly from t_min to 1 [N].

    For chains of few steps; the variance at t_min, which x_0 would have, is left out. Source: Xiao et al. 2021, their
    code.
    """
    t = np.linspace(t_min, 1, num_scales + 1)
    return -np.expm1(-np.diff(t * (beta_min + 0.5 * t * (beta_max - beta_min))))


def vp_chain(betas: np.ndarray) -> VPChain:
    """The VPChain of a table of betas [N]; UsageError unless there are two or more, all in (0, 1)."""
    betas = np.asarray(betas, np.float64)
    require(betas.ndim == 1 and len(betas) >= 2, f"betas of shape {betas.shape}: give two or more in one row")
    wrong = betas[~((betas > 0) & (betas < 1))]
    require(not len(wrong), f"beta {wrong[:1]} is not in (0, 1): it is the variance that one step adds")
    # A numpy leaf in float64: it takes the precision of whatever it meets.
    return VPChain(np.concatenate([[0.0], np.cumsum(-np.log1p(-betas))]))  # pyright: ignore[reportArgumentType]
