"""Exact posteriors of Gaussians and mixtures given a linear measurement, and the exact laws of edited examples.

With y = A x_0 + sigma_y n the posterior of a mixture is a mixture again, and its own noised marginal is p_t(x | y): its
weights do not depend on t. So one function makes an oracle of conditional sampling of every oracle of sampling.
"""

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.sde.analytic import Gaussian, Mixture, noised_variance, product
from score_sde.sde.base import SDE
from score_sde.typing import Array, Time


def condition(data: Gaussian | Mixture, A: Array, y: Array, sigma_y: float | Array) -> Mixture:
    """The law of x_0 given y = A x_0 + sigma_y n, n standard normal, exact in score, denoiser and density at all t.

    A [M, D] acts on flattened examples, y [M]. With S_k = A C_k A^T + sigma_y^2 I and K_k = C_k A^T S_k^{-1} the
    components become N(mu_k + K_k (y - A mu_k), (I - K_k A) C_k (I - K_k A)^T + sigma_y^2 K_k K_k^T), their weights
    proportional to w_k N(y; A mu_k, S_k). This form of the covariance (Bucy & Joseph 1968) is exact to rounding and
    never negative, at sigma_y = 0 too, where the rows of A are to be independent. Pure: it may be jitted, and mapped
    over y. Raises UsageError for shapes that do not fit and sigma_y < 0.
    """
    law, residual, S, weights = _evidence(data, A, y, sigma_y)
    C, identity = law.covariances, jnp.eye(A.shape[1], dtype=A.dtype)
    gain = jnp.swapaxes(jnp.linalg.solve(S, product(A[None], C)), 1, 2)
    kept = identity[None] - product(gain, A[None])
    covariances = product(product(kept, C), jnp.swapaxes(kept, 1, 2))
    covariances += sigma_y**2 * product(gain, jnp.swapaxes(gain, 1, 2))
    means = law.means + product(gain, residual[..., None])[..., 0].reshape(law.means.shape)
    variances, bases = jnp.linalg.eigh(0.5 * (covariances + jnp.swapaxes(covariances, 1, 2)))
    return Mixture(jax.nn.softmax(weights), means, jnp.maximum(variances, 0.0), bases)


def condition_noised(data: Gaussian | Mixture, A: Array, c: Array, sde: SDE, t: Time) -> Mixture:
    """The law of x_0 given c = alpha A x_0 + sigma n, a measurement noised to the level of t []; c [M].

    What a network that is shown a noised picture estimates at best: `condition` on c / alpha, sigma_y = sigma / alpha.
    Raises UsageError as there. Source: Ho et al. 2022 (cascades) condition so; the law is by Gaussian algebra.
    """
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return condition(data, A, c / alpha, sigma / alpha)


def log_evidence(data: Gaussian | Mixture, A: Array, y: Array, sigma_y: float | Array) -> Array:
    """log p(y) [] in nats of the measurement y [M] that `condition` describes; UsageError as there.

    Under every component y is N(A mu_k, A C_k A^T + sigma_y^2 I) (Kalman 1960).
    """
    return jax.nn.logsumexp(_evidence(data, A, y, sigma_y)[3])


def edited(data: Gaussian, sde: SDE, t: Time, x: Array) -> Gaussian:
    """The law of x [...] noised to the level of t [] and sampled back exactly: what SDEdit and purification draw from.

    N(D(alpha x, t), C + (alpha^2 / sigma^2) C^2) with the denoiser D and C = Cov[x_0 | x_t]. Source: Meng et al. 2022
    (SDEdit) and Nie et al. 2022 (DiffPure) draw so; the law is by Gaussian algebra.
    """
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    mean = data.denoiser(sde)(alpha * x[None], jnp.asarray(t))[0]
    left = noised_variance(sde, t, data.variances)
    return Gaussian(mean, left + (alpha / sigma) ** 2 * left**2, data.basis)


def _evidence(
    data: Gaussian | Mixture, A: Array, y: Array, sigma_y: float | Array
) -> tuple[Mixture, Array, Array, Array]:
    """The data as a mixture, y - A mu_k [K, M], S_k [K, M, M], log w_k N(y; A mu_k, S_k) [K]."""
    law = data.mixture() if isinstance(data, Gaussian) else data
    means = law.means.reshape(len(law.means), -1)
    require(
        A.ndim == 2 and A.shape[1] == means.shape[1] and y.shape == A.shape[:1],
        f"A has shape {A.shape} and y {y.shape}: of examples of {means.shape[1]} numbers A is [M, {means.shape[1]}], y"
        " [M]",
    )
    require(not isinstance(sigma_y, (int, float)) or sigma_y >= 0, f"sigma_y={sigma_y} must be at least 0")
    residual = y[None] - product(means, A.T)
    S = product(product(A[None], law.covariances), A.T[None]) + sigma_y**2 * jnp.eye(len(A), dtype=A.dtype)[None]
    whitened = jnp.linalg.solve(S, residual[..., None])[..., 0]
    log_normal = -0.5 * (jnp.sum(residual * whitened, -1) + jnp.linalg.slogdet(2 * jnp.pi * S)[1])
    return law, residual, S, log_normal + jnp.log(law.weights)
