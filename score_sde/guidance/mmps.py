"""Moment matching posterior sampling: the Gaussian with the covariance that Tweedie's formula gives."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from score_sde.guidance.krylov import SOLVERS
from score_sde.guidance.measurement import Measurement
from score_sde.guidance.operators import Operator
from score_sde.guidance.posterior import PosteriorScore, linearised
from score_sde.sde import SDE
from score_sde.sde.analytic import noised_variance
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class MMPS(PosteriorScore):
    """D_y = D + C A^T u with (A C A^T + sigma_y^2 I) u = y - A D and C = (sigma^2 / alpha) J^T.

    u by some steps of a Krylov solver from 0, each a vector-Jacobian product: exact for Gaussian data once it is
    solved. solver: "cg", or "gmres" where J is far from symmetric. variance: of the data, for a preconditioner of their
    noised covariance r^2 I; None for none. Source: Rozet et al. 2024.
    """

    steps: int = 3
    solver: str = "cg"
    variance: float | None = 1.0

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D, covary = linearised(score, sde, x, t)
        A, noise = measurement.A, measurement.sigma_y**2

        def product(u: Array) -> tuple[Array, Array]:
            moved = covary(A.transpose(u))
            return A(moved) + noise * u, moved

        _, shift = SOLVERS[self.solver](
            product, measurement.residual(D), self.steps, preconditioner(sde, A, noise, t, self.variance)
        )
        return own, shift


def preconditioner(sde: SDE, A: Operator, noise: Array, t: Array, variance: float | None) -> Callable[[Array], Array]:
    """r -> (r^2 A A^T + noise I)^{-1} r, r^2 the noised variance; r itself without one, or A's singular values."""
    spectrum = A.spectrum
    if variance is None or spectrum is None:
        return lambda r: r
    below = jnp.atleast_1d(noised_variance(sde, t, variance))[:, None] * spectrum.values[None] ** 2 + noise
    return lambda r: spectrum.from_u(spectrum.to_u(r) / below)
