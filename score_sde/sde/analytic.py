"""Data laws whose score is known exactly under every linear SDE: public oracles for samplers and likelihoods.

With x_t = alpha x_0 + sigma eps, data N(m, C) has the marginal N(alpha m, alpha^2 C + sigma^2 I), and a
mixture of Gaussians stays one.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.rng import normal, one_normal
from score_sde.sde.base import SDE, denoiser
from score_sde.typing import Array, Keys, ScoreFn, Time, expand


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Data N(mean, U diag(variances) U^T); make one with `gaussian`. mean [...], variances [D], basis U [D, D]."""

    mean: Array
    variances: Array
    basis: Array

    def sample(self, keys: Keys) -> Array:
        """Draws [B, ...] of the data, one per key."""
        z = normal(keys, self.variances.shape, self.mean.dtype)
        return self._from_basis(z * jnp.sqrt(self.variances)[None], 1.0)

    def score(self, sde: SDE) -> ScoreFn:
        """The exact score -(alpha^2 C + sigma^2 I)^{-1} (x - alpha m)."""

        def score(x: Array, t: Array) -> Array:
            y = self._to_basis(x, sde.alpha(t))
            return self._from_basis(-y / self._variances(sde, t), 0.0)

        return score

    def denoiser(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact posterior mean E[x_0 | x_t]."""
        return denoiser(sde, self.score(sde))

    def log_prob(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact log p_t(x) in nats: (x [B, ...], t [] or [B]) -> [B]."""

        def log_prob(x: Array, t: Time) -> Array:
            y, v = self._to_basis(x, sde.alpha(t)), self._variances(sde, t)
            return -0.5 * jnp.sum(y**2 / v + jnp.log(2 * jnp.pi * v), axis=-1)

        return log_prob

    def flow(self, sde: SDE) -> Callable[[Array, Time, Time], Array]:
        """The exact probability-flow map (x_t, t, s) -> x_s, which whitens at t and colours at s."""

        def flow(x: Array, t: Time, s: Time) -> Array:
            y = self._to_basis(x, sde.alpha(t))
            scaled = y * jnp.sqrt(self._variances(sde, s) / self._variances(sde, t))
            return self._from_basis(scaled, sde.alpha(s))

        return flow

    def _variances(self, sde: SDE, t: Time) -> Array:
        """Marginal variances in the basis, [1 or B, D]."""
        alpha, sigma = jnp.atleast_1d(sde.alpha(t)), jnp.atleast_1d(sde.sigma(t))
        return alpha[:, None] ** 2 * self.variances[None] + sigma[:, None] ** 2

    def _to_basis(self, x: Array, alpha: Time) -> Array:
        centred = x - expand(alpha, x) * self.mean[None]
        return _product(centred.reshape(len(x), -1), self.basis)

    def _from_basis(self, y: Array, alpha: Time) -> Array:
        x = _product(y, self.basis.T).reshape(len(y), *self.mean.shape)
        return x + expand(alpha, x) * self.mean[None]


def gaussian(mean: Array, covariance: Array) -> Gaussian:
    """Data N(mean, covariance), mean of any shape with D elements, covariance [D, D] over them flattened.

    Not for use under jit, as it looks at the numbers. Raises UsageError for a covariance of another shape
    or one that is not symmetric positive definite.
    """
    dimension = math.prod(mean.shape)
    require(
        covariance.shape == (dimension, dimension),
        f"covariance has shape {covariance.shape}: a mean of shape {mean.shape} needs ({dimension}, {dimension})",
    )
    require(bool(jnp.allclose(covariance, covariance.T)), "covariance is not symmetric: pass (C + C.T) / 2")
    variances, basis = jnp.linalg.eigh(covariance)
    lowest = float(variances[0])
    require(lowest > 0, f"covariance has the eigenvalue {lowest}: add a small multiple of the identity")
    return Gaussian(jnp.asarray(mean), variances, basis)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Data sum_k w_k N(mu_k, s_k^2 I): weights w [K] (summing to 1), means [K, ...], stds s [K]."""

    weights: Array
    means: Array
    stds: Array

    def sample(self, keys: Keys) -> Array:
        """Draws [B, ...] of the data, one per key."""

        def one(key: Array) -> Array:
            choose, noise = jax.random.split(key)
            k = jax.random.categorical(choose, jnp.log(self.weights))
            return self.means[k] + self.stds[k] * one_normal(noise, self.means.shape[1:], self.means.dtype)

        return jax.vmap(one)(keys)

    def score(self, sde: SDE) -> ScoreFn:
        """The exact score -sum_k r_k(x) (x - alpha mu_k) / (alpha^2 s_k^2 + sigma^2), r the responsibilities."""

        def score(x: Array, t: Array) -> Array:
            offset, variance, joint = self._components(sde, x, t)
            weight = jax.nn.softmax(joint, axis=-1) / variance
            return -jnp.einsum("bk,bkd->bd", weight, offset, precision="highest").reshape(x.shape)

        return score

    def denoiser(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact posterior mean E[x_0 | x_t]."""
        return denoiser(sde, self.score(sde))

    def log_prob(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact log p_t(x) in nats: (x [B, ...], t [] or [B]) -> [B]."""
        return lambda x, t: jax.nn.logsumexp(self._components(sde, x, t)[2], axis=-1)

    def _components(self, sde: SDE, x: Array, t: Time) -> tuple[Array, Array, Array]:
        """Offsets x - alpha mu_k [B, K, D], variances [1 or B, K], log joint densities [B, K]."""
        alpha, sigma = jnp.atleast_1d(sde.alpha(t)), jnp.atleast_1d(sde.sigma(t))
        mu = self.means.reshape(len(self.means), -1)
        offset = x.reshape(len(x), 1, -1) - alpha[:, None, None] * mu[None]
        variance = alpha[:, None] ** 2 * self.stds[None] ** 2 + sigma[:, None] ** 2
        log_normal = -0.5 * jnp.sum(offset**2, axis=-1) / variance
        log_normal -= 0.5 * mu.shape[-1] * jnp.log(2 * jnp.pi * variance)
        return offset, variance, log_normal + jnp.log(self.weights)[None]


def mixture(weights: Array, means: Array, stds: Array) -> Mixture:
    """A checked Mixture of weights [K], normalised here, means [K, ...] and stds [K].

    Raises UsageError for mismatched lengths, and for weights or stds that are not positive.
    """
    lengths = {len(weights), len(means), len(stds)}
    require(len(lengths) == 1, f"weights, means and stds have {sorted(lengths)} components: give each the same")
    require(bool(jnp.all(weights > 0)), f"weights {weights} must all be positive: drop the empty components")
    require(bool(jnp.all(stds > 0)), f"stds {stds} must all be positive")
    return Mixture(weights / jnp.sum(weights), means, stds)


def _product(a: Array, b: Array) -> Array:
    """a @ b of the highest precision: accelerators round the operands of others."""
    return jnp.matmul(a, b, precision="highest")
