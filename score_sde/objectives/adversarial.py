"""Losses of a critic of pictures and of what it judges (Esser et al. 2021): logits are high for the data."""

import jax
import jax.numpy as jnp

from score_sde.typing import Array

LARGEST = 1e4
"""The largest adaptive weight."""


def hinge(real: Array, fake: Array) -> Array:
    """The critic's (max(0, 1 - D(x)) + max(0, 1 + D(x'))) / 2, elementwise (Lim & Ye 2017)."""
    return 0.5 * (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake))


def vanilla(real: Array, fake: Array) -> Array:
    """The critic's (softplus(-D(x)) + softplus(D(x'))) / 2, elementwise (Goodfellow et al. 2014)."""
    return 0.5 * (jax.nn.softplus(-real) + jax.nn.softplus(fake))


def switched(step: Array, start: int) -> Array:
    """1.0 from update `start` on, before that 0.0, shape of step."""
    return (step >= start).astype(jnp.float32)


def adaptive_weight(reconstruction: Array, adversarial: Array) -> Array:
    """|grad of the reconstruction's loss| / (|grad of the critic's| + 1e-4), at most LARGEST: [B].

    Both [B, ...] in the decoder's last layer, of every example alone; published with the gradients of a whole batch,
    by which an example's loss depends on its neighbours. Source: Esser et al. 2021 (arXiv 2012.09841), equation 7.
    """
    size = lambda g: jnp.sqrt((g**2).sum(tuple(range(1, g.ndim))))
    return jnp.minimum(size(reconstruction) / (size(adversarial) + 1e-4), LARGEST)
