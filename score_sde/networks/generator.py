"""Generators: a network that is given a latent beside the noise level, for outputs that x and the level leave open."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.layers import Dense
from score_sde.typing import Array, Keys


class Generator(nn.Module):
    """x [B, H, W, C], label [B], condition["latent"] z [B, L] -> the network's output, of z too, [B, H, W, C] float32.

    z / sqrt(mean(z^2) + 1e-8) passes through 1 + layers linear layers of `width` numbers, each with the activation
    behind it; what comes out is the network's condition["style"], of which its residual blocks make the scale and bias
    of their norms. tanh: the output lies in (-1, 1). Raises ValueError where there is no latent. Source: Xiao et al.
    2021 (arXiv 2112.07804), section 5; Karras et al. 2019 for the mapping.
    """

    network: nn.Module
    width: int = 256
    layers: int = 3
    tanh: bool = True

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        told = dict(condition or {})
        if "latent" not in told:
            raise ValueError(f"the condition has {sorted(told)}: it needs a latent [B, L]")
        z = told.pop("latent")
        style = z * jax.lax.rsqrt(jnp.mean(z**2, axis=-1, keepdims=True) + 1e-8)
        for i in range(1 + self.layers):
            style = jax.nn.swish(Dense(self.width, name=f"Dense_{i}")(style))
        y = self.network(x, label, sigma, dropout_keys, condition={**told, "style": style})  # pyright: ignore[reportCallIssue]
        return jnp.tanh(y) if self.tanh else y
