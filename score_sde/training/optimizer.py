"""Adam with linear warm-up, global-norm clipping and decoupled weight decay, as score_sde trains with."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from score_sde.typing import Array

Params = Any

FROZEN = "GaussianFourierProjection"
"""Modules whose parameters are constants of the architecture: no gradient reaches them, so no decay may either."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """p <- p - lr(step) (Adam(clip(g)) + weight_decay p), with lr(step) = learning_rate min(step / warmup, 1).

    clip(g) = g c / max(|g|, c) over all parameters of a part, off for c < 0; `step` counts from 0, so that under
    warm-up the first update has rate 0. decay_steps: updates in which the rate also falls evenly to 0, by the factor
    1 - step / decay_steps (Salimans & Ho 2022); 0 for none. start: updates before the first, in which parameters and
    state stay as they are, whatever the gradient, and from whose end warm-up counts. Source: Kingma & Ba 2015;
    Loshchilov & Hutter 2019; Song et al. 2021, appendix H.
    """

    learning_rate: float = 2e-4
    warmup: int = 5000
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    decay_steps: int = 0
    start: int = 0

    def init(self, params: Params) -> Any:
        """Optimizer state for the parameters."""
        return self._transform().init(params)

    def state_from_moments(self, params: Params, mu: Params, nu: Params, count: Any) -> Any:
        """Optimizer state after `count` updates that left Adam's first and second moments at mu and nu."""
        empty = jax.eval_shape(self.init, params)
        return optax.tree.set(empty, mu=mu, nu=nu, count=count)

    def moments(self, state: Any) -> tuple[Params, Params, Any]:
        """Adam's first and second moments and the number of its updates [], of an optimizer state."""
        return tuple(optax.tree.get(state, name) for name in ("mu", "nu", "count"))  # pyright: ignore[reportReturnType]

    def rate(self, step: Array) -> Array:
        """The learning rate [] of the update that follows `step` updates; 0 before `start`."""
        rate = jnp.float32(self.learning_rate)
        if self.warmup:
            rate = self.learning_rate * jnp.minimum((step - self.start) / jnp.float32(self.warmup), 1.0)
        if self.decay_steps:
            rate *= jnp.maximum(1 - step / jnp.float32(self.decay_steps), 0.0)
        return jnp.where(step < self.start, 0.0, rate) if self.start else rate

    def update(
        self, gradients: Params, state: Any, params: Params, step: Array, norm: Array | None = None
    ) -> tuple[Params, Any]:
        """New parameters and optimizer state after update `step` [], from gradients already averaged over devices.

        norm: |g| [], where it is known.
        """
        if self.grad_clip >= 0:
            norm = global_norm(gradients) if norm is None else norm
            # By one factor: divided by the norm and multiplied again, every gradient would be written once more.
            factor = self.grad_clip / jnp.maximum(norm, self.grad_clip)
            gradients = jax.tree.map(lambda g: g * factor, gradients)
        updates, new = self._transform().update(gradients, state, params)
        rate = self.rate(step)
        moved = jax.tree.map(lambda p, u: p - rate * u, params, updates)
        if not self.start:
            return moved, new
        return jax.tree.map(lambda n, old: jnp.where(step < self.start, old, n), (moved, new), (params, state))

    def _transform(self) -> optax.GradientTransformation:
        parts = [optax.identity()] if self.grad_clip >= 0 else []  # the place of the clipping in a checkpoint's state
        parts.append(optax.scale_by_adam(self.beta1, self.beta2, self.eps))
        if self.weight_decay:
            parts.append(optax.add_decayed_weights(self.weight_decay, mask=_decayed))
        return optax.chain(*parts)


def global_norm(gradients: Params) -> Array:
    """The L2 norm over all parameters []."""
    return optax.tree.norm(gradients)


def joined_norm(gradients: Params) -> Array:
    """`global_norm` for GPUs: squares are summed to a vector for every array, and these vectors as one.

    There every sum is a kernel or two, and one within an update keeps it from being joined with others.
    """
    squares = [jnp.square(jnp.atleast_1d(leaf)) for leaf in jax.tree.leaves(gradients)]
    vectors = [square.sum(axis=tuple(range(square.ndim - 1))) for square in squares]
    # Without the barrier XLA takes the sum over what is joined apart again.
    return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.concatenate(vectors))))


def _decayed(params: Params) -> Params:
    return jax.tree_util.tree_map_with_path(lambda path, _: FROZEN not in jax.tree_util.keystr(path), params)
