"""Instance normalisation of the NCSN family: statistics per example and channel (Song & Ermon 2019, 2020)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import initializers

from score_sde.networks.layers import Dtype, channel_vector
from score_sde.typing import Array

EPS = 1e-5


def around_one(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
    """Draw from N(1, 0.02^2)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def standardise(x: Array, axes: tuple[int, ...], *, centre: bool = True) -> Array:
    """(x - mean) / sqrt(var + 1e-5) over `axes`, the variance being the population's; float32."""
    x = x.astype(jnp.float32)
    centred = x - x.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred if centre else x) * lax.rsqrt(variance + EPS)


def instance_norm_plus(x: Array, gamma: Array, alpha: Array, beta: Array) -> Array:
    """InstanceNorm++: y = gamma (standardised x + alpha standardised means) + beta.

    x [B, H, W, C], the rest [1 or B, 1, 1, C]. The means of x over H and W, standardised over channels, keep the
    contrast between channels that instance norm removes. Source: Song & Ermon 2019, appendix A.
    """
    means = standardise(x.astype(jnp.float32).mean((1, 2), keepdims=True), (3,))
    return (gamma * (standardise(x, (1, 2)) + means * alpha) + beta).astype(x.dtype)


class InstanceNorm2d(nn.Module):
    """Per example and channel: scale (x - mean) / sqrt(var + eps) + bias, x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1, 1, 1, x.shape[-1])
        scale = self.param("scale", initializers.ones, shape, jnp.float32)
        bias = self.param("bias", initializers.zeros, shape, jnp.float32)
        return (standardise(x, (1, 2)) * scale + bias).astype(x.dtype)


class VarianceNorm2d(nn.Module):
    """Per example and channel: scale x / sqrt(var + eps), x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", around_one, (1, 1, 1, x.shape[-1]), jnp.float32)
        return (standardise(x, (1, 2), centre=False) * scale).astype(x.dtype)


class InstanceNorm2dPlus(nn.Module):
    """`instance_norm_plus` with learned gamma, alpha and beta: x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1, 1, 1, x.shape[-1])
        gamma = self.param("gamma", around_one, shape, jnp.float32)
        alpha = self.param("alpha", around_one, shape, jnp.float32)
        beta = self.param("beta", initializers.zeros, shape, jnp.float32)
        return instance_norm_plus(x, gamma, alpha, beta)


class ConditionalInstanceNorm2dPlus(nn.Module):
    """`instance_norm_plus` whose gamma, alpha and beta belong to a class: x [B, H, W, C], integer label [B]."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, label: Array) -> Array:
        table = nn.Embed(self.num_classes, 3 * x.shape[-1], embedding_init=_conditional_init, name="Embed_0")
        gamma, alpha, beta = (channel_vector(v, x) for v in jnp.split(table(label), 3, axis=-1))
        return instance_norm_plus(x, gamma, alpha, beta)


def _conditional_init(key: Array, shape: Sequence[int], dtype: Dtype) -> Array:
    classes, width = shape
    ones = around_one(key, (classes, 2 * width // 3), dtype)
    return jnp.concatenate([ones, jnp.zeros((classes, width // 3), dtype)], axis=-1)
