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

    def mixture(self) -> "Mixture":
        """The same law as a mixture of one component."""
        return Mixture(jnp.ones(1, self.mean.dtype), self.mean[None], self.variances[None], self.basis[None])

    def _variances(self, sde: SDE, t: Time) -> Array:
        """Marginal variances in the basis, [1 or B, D]."""
        alpha, sigma = jnp.atleast_1d(sde.alpha(t)), jnp.atleast_1d(sde.sigma(t))
        return alpha[:, None] ** 2 * self.variances[None] + sigma[:, None] ** 2

    def _to_basis(self, x: Array, alpha: Time) -> Array:
        centred = x - expand(alpha, x) * self.mean[None]
        return product(centred.reshape(len(x), -1), self.basis)

    def _from_basis(self, y: Array, alpha: Time) -> Array:
        x = product(y, self.basis.T).reshape(len(y), *self.mean.shape)
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
    """Data sum_k w_k N(mu_k, C_k) over D numbers; make one with `mixture`.

    weights w [K], summing to 1; means mu [K, ...]; C_k = U_k diag(v_k) U_k^T by variances v [K, D], or [K, 1] where
    components are isotropic, and bases U [K, D, D], None for the axes. Variances may be 0, at times above 0.
    """

    weights: Array
    means: Array
    variances: Array
    bases: Array | None = None

    @property
    def stds(self) -> Array:
        """Standard deviations along the bases' columns, [K, D] or [K, 1]."""
        return jnp.sqrt(self.variances)

    def sample(self, keys: Keys) -> Array:
        """Draws [B, ...] of the data, one per key."""

        def one(key: Array) -> Array:
            choose, noise = jax.random.split(key)
            k = jax.random.categorical(choose, jnp.log(self.weights))
            z = one_normal(noise, self.means.shape[1:], self.means.dtype).reshape(-1) * self.stds[k]
            z = z if self.bases is None else product(self.bases[k], z)
            return self.means[k] + z.reshape(self.means.shape[1:])

        return jax.vmap(one)(keys)

    def score(self, sde: SDE) -> ScoreFn:
        """The exact score -sum_k r_k(x) (alpha^2 C_k + sigma^2 I)^{-1} (x - alpha mu_k), r the responsibilities."""

        def score(x: Array, t: Array) -> Array:
            offset, variance, joint = self._components(sde, x, t)
            whitened = self._from_bases(offset / variance)
            weights = jax.nn.softmax(joint, axis=-1)
            return -jnp.einsum("bk,bkd->bd", weights, whitened, precision="highest").reshape(x.shape)

        return score

    def denoiser(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact posterior mean E[x_0 | x_t]."""
        return denoiser(sde, self.score(sde))

    def log_prob(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact log p_t(x) in nats: (x [B, ...], t [] or [B]) -> [B]."""
        return lambda x, t: jax.nn.logsumexp(self._components(sde, x, t)[2], axis=-1)

    def log_responsibilities(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact log p_t(k | x), of which component x_0 was drawn: (x [B, ...], t [] or [B]) -> [B, K].

        Where components are classes it is the exact noise-conditional classifier: its gradient is the class's score
        less the whole mixture's.
        """
        return lambda x, t: jax.nn.log_softmax(self._components(sde, x, t)[2], axis=-1)

    def covariance(self, sde: SDE) -> Callable[[Array, Time], Array]:
        """The exact Cov[x_0 | x_t] = (sigma^2 / alpha) dE[x_0 | x_t]/dx: (x [B, ...], t [] or [B]) -> [B, D, D].

        sum_k r_k (C_k' + (m_k - D)(m_k - D)^T) with each component's own posterior N(m_k, C_k'), D = sum_k r_k m_k.
        """

        def covariance(x: Array, t: Time) -> Array:
            offset, variance, joint = self._components(sde, x, t)
            r = jax.nn.softmax(joint, axis=-1)
            alpha, sigma = (jnp.atleast_1d(a)[:, None, None] for a in (sde.alpha(t), sde.sigma(t)))
            gain = jnp.broadcast_to(self.variances[None] / variance, offset.shape)
            mean = self._from_bases(alpha * gain * offset) + self._flat_means[None]
            mean -= jnp.einsum("bk,bkd->bd", r, mean, precision="highest")[:, None]
            within = jnp.einsum("bk,bkij->bij", r, self._matrices(sigma**2 * gain), precision="highest")
            return within + jnp.einsum("bk,bki,bkj->bij", r, mean, mean, precision="highest")

        return covariance

    def moments(self) -> tuple[Array, Array]:
        """The data's mean [...] and covariance [D, D]."""
        mean = jnp.einsum("k,kd->d", self.weights, self._flat_means, precision="highest")
        offset = self._flat_means - mean[None]
        between = jnp.einsum("k,ki,kj->ij", self.weights, offset, offset, precision="highest")
        within = jnp.einsum("k,kij->ij", self.weights, self.covariances, precision="highest")
        return mean.reshape(self.means.shape[1:]), within + between

    @property
    def covariances(self) -> Array:
        """C_k [K, D, D]."""
        return self._matrices(jnp.broadcast_to(self.variances, self._flat_means.shape))

    def part(self, components: tuple[int, ...]) -> "Mixture":
        """The mixture of these components alone, such as those of one class."""
        chosen = jnp.asarray(components)
        weights = self.weights[chosen]
        bases = None if self.bases is None else self.bases[chosen]
        return Mixture(weights / weights.sum(), self.means[chosen], self.variances[chosen], bases)

    @property
    def _flat_means(self) -> Array:
        return self.means.reshape(len(self.means), -1)

    def _components(self, sde: SDE, x: Array, t: Time) -> tuple[Array, Array, Array]:
        """Offsets x - alpha mu_k in the bases [B, K, D], variances [1 or B, K, 1 or D], log joint densities [B, K]."""
        alpha, sigma = (jnp.atleast_1d(a)[:, None, None] for a in (sde.alpha(t), sde.sigma(t)))
        offset = x.reshape(len(x), 1, -1) - alpha * self._flat_means[None]
        if self.bases is not None:
            offset = jnp.einsum("bki,kij->bkj", offset, self.bases, precision="highest")
        variance = alpha**2 * self.variances[None] + sigma**2
        log_normal = -0.5 * jnp.sum(offset**2 / variance, axis=-1)
        log_normal -= 0.5 * offset.shape[-1] * jnp.mean(jnp.log(2 * jnp.pi * variance), axis=-1)
        return offset, variance, log_normal + jnp.log(self.weights)[None]

    def _from_bases(self, y: Array) -> Array:
        """U_k y_k, [B, K, D]."""
        return y if self.bases is None else jnp.einsum("kij,bkj->bki", self.bases, y, precision="highest")

    def _matrices(self, variances: Array) -> Array:
        """U_k diag(v_k) U_k^T of v [..., K, D]: [..., K, D, D]."""
        if self.bases is None:
            return jnp.einsum("...j,ij->...ij", variances, jnp.eye(variances.shape[-1], dtype=variances.dtype))
        return jnp.einsum("kij,...kj,klj->...kil", self.bases, variances, self.bases, precision="highest")


def mixture(weights: Array, means: Array, stds: Array | None = None, *, covariances: Array | None = None) -> Mixture:
    """A checked Mixture of weights [K], normalised here, means [K, ...], and stds [K] or covariances [K, D, D].

    Not for use under jit, as it looks at the numbers. Raises UsageError for neither or both of the latter, for
    mismatched lengths or shapes, for weights or stds that are not positive, and for a covariance that is not symmetric
    or has a negative eigenvalue.
    """
    spread = stds if covariances is None else covariances
    require(
        spread is not None and (stds is None or covariances is None),
        "a mixture is given stds, of isotropic components, or covariances: give one of them",
    )
    assert spread is not None
    lengths = {len(weights), len(means), len(spread)}
    require(len(lengths) == 1, f"weights, means and spreads have {sorted(lengths)} components: give each the same")
    require(bool(jnp.all(weights > 0)), f"weights {weights} must all be positive: drop the empty components")
    weights = weights / jnp.sum(weights)
    if covariances is None:
        require(bool(jnp.all(spread > 0)), f"stds {stds} must all be positive")
        return Mixture(weights, means, spread[:, None] ** 2)
    dimension = math.prod(means.shape[1:])
    require(
        covariances.shape[1:] == (dimension, dimension),
        f"covariances have shape {covariances.shape}: means of shape {means.shape} need"
        f" {(len(means), dimension, dimension)}",
    )
    require(
        bool(jnp.allclose(covariances, jnp.swapaxes(covariances, 1, 2))),
        "a covariance is not symmetric: pass (C + C.T) / 2",
    )
    variances, bases = jnp.linalg.eigh(covariances)
    lowest, highest = float(variances.min()), float(variances.max())
    require(lowest > -1e-6 * highest, f"a covariance has the eigenvalue {lowest}: none may be negative")
    return Mixture(weights, means, jnp.maximum(variances, 0.0), bases)


def noised_variance(sde: SDE, t: Time, variance: float | Array) -> Array:
    """sigma^2 v / (sigma^2 + alpha^2 v): of x_0 given x_t, for Gaussian data of variance v, which broadcasts with t."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return sigma**2 * variance / (sigma**2 + alpha**2 * variance)


def product(a: Array, b: Array) -> Array:
    """a @ b of the highest precision: accelerators round the operands of others."""
    return jnp.matmul(a, b, precision="highest")
