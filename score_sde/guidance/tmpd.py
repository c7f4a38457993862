"""Tweedie moment projected diffusions: the covariance of the measurement in full, its diagonal, or its rows' sums."""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, linearised
from score_sde.sde import SDE
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class TMPD(PosteriorScore):
    """D_y = D + C A^T S^{-1} (y - A D), C = (sigma^2 / alpha) J^T and S = A C A^T + sigma_y^2 I or a diagonal for it.

    form: "full" solves with S, "diagonal" takes its diagonal, both at one vector-Jacobian product for every number of
    the measurement, in a loop; "rows" takes A C A^T's sums of rows, at two. least: no diagonal of A C A^T is taken for
    less, as sums of rows may be; None for as it comes. Source: Boys et al. 2023.
    """

    form: str = "rows"
    least: float | None = 0.0

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D, covary = linearised(score, sde, x, t)
        A, noise = measurement.A, measurement.sigma_y**2
        e = measurement.residual(D)
        seen = lambda u: A(covary(A.transpose(u)))
        if self.form == "rows":
            solved = e / (self._bounded(seen(jnp.ones_like(e))) + noise)
        else:
            flat, size = e.reshape(len(e), -1), e[0].size
            column = lambda row: seen(jnp.broadcast_to(row.reshape(1, *e.shape[1:]), e.shape)).reshape(len(e), -1)
            S = jnp.moveaxis(jax.lax.map(column, jnp.eye(size, dtype=e.dtype)), 0, -1)  # [B, M, M]
            if self.form == "full":
                S = S + noise * jnp.eye(size, dtype=e.dtype)[None]
                solved = jnp.linalg.solve(S, flat[..., None])[..., 0].reshape(e.shape)
            else:
                solved = (flat / (self._bounded(jnp.diagonal(S, axis1=1, axis2=2)) + noise)).reshape(e.shape)
        return own, covary(A.transpose(solved))

    def _bounded(self, diagonal: Array) -> Array:
        return diagonal if self.least is None else jnp.maximum(diagonal, self.least)
