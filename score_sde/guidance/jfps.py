"""The posterior of data as if they were Gaussian with a covariance that is known: exact where they are."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from score_sde.guidance.krylov import conjugate_gradients
from score_sde.guidance.measurement import Measurement
from score_sde.guidance.posterior import PosteriorScore, plain
from score_sde.sde import SDE
from score_sde.sde.analytic import Gaussian, noised_variance, product
from score_sde.typing import Array, ScoreFn


@dataclasses.dataclass(frozen=True)
class JFPS(PosteriorScore):
    """D_y = D + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A D), C = (S^{-1} + alpha^2 / sigma^2 I)^{-1}, S the data's.

    law: a Gaussian with the covariance S; its mean has no part in it. No derivative of the network; the system by some
    steps of conjugate gradients. Source: Rozet et al. 2024 (their heuristic C); azula's name for it.
    """

    law: Gaussian
    steps: int = 16

    reverse: ClassVar[bool] = False

    def shift(self, score: ScoreFn, sde: SDE, measurement: Measurement, x: Array, t: Array) -> tuple[Array, Array]:
        own, D = plain(score, sde, x, t)
        A, noise = measurement.A, measurement.sigma_y**2
        kept = noised_variance(sde, jnp.atleast_1d(t)[:, None], self.law.variances[None])

        def covary(x: Array) -> Array:
            basis = self.law.basis
            return product(product(x.reshape(len(x), -1), basis) * kept, basis.T).reshape(x.shape)

        def seen(u: Array) -> tuple[Array, Array]:
            moved = covary(A.transpose(u))
            return A(moved) + noise * u, moved

        return own, conjugate_gradients(seen, measurement.residual(D), self.steps)[1]
