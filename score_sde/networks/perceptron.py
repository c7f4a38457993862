"""A network of dense layers for the scores of what has no places: vectors, and latents of a few numbers."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.layers import Dense, Dtype, ddpm_init
from score_sde.typing import Array, Keys

FREQUENCIES = 4
"""Of the label's sines and cosines: 1, 2, 4 and 8."""


class Perceptron(nn.Module):
    """x [B, ...], label [B] -> output of x's shape, float32: `hidden` layers with swish, and a linear one from 0.

    Every layer but the last sees the layer before it, the first x flat beside sines and cosines of 1, 2, 4 and 8 times
    the label, which is to be of size 1, as ln(sigma / alpha) / 4 is (parametrization.log_sigma_label).
    """

    hidden: tuple[int, ...] = (64, 64)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, label: Array, sigma: Array | None = None, dropout_keys: Keys | None = None) -> Array:
        phase = label.astype(jnp.float32)[:, None] * 2.0 ** jnp.arange(FREQUENCIES)[None]
        h = jnp.concatenate([x.reshape(len(x), -1), jnp.sin(phase), jnp.cos(phase)], axis=-1)
        for i, width in enumerate(self.hidden):
            h = jax.nn.swish(Dense(width, dtype=self.dtype, name=f"Dense_{i}")(h))
        out = Dense(math.prod(x.shape[1:]), ddpm_init(0.0), self.dtype, name="output")(h)
        return out.astype(jnp.float32).reshape(x.shape)
