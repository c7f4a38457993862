"""Vector quantisation: every vector of a latent becomes the nearest of a codebook's (van den Oord et al. 2017)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.typing import Array


class VectorQuantizer(nn.Module):
    """z [B, ..., C] -> (z_q [B, ..., C], loss [B], number of the code int32 [B, ...]), of a `codebook` [codes, C].

        z_q = the code nearest to z, to whose place the gradient passes straight through;
        loss = beta mean (sg(z_q) - z)^2 + mean (z_q - sg(z))^2,

    sg without gradient: beta keeps the encoder near its codes, and codes move to what falls to them. (The published
    code of taming-transformers has beta on the second term unless `legacy` is switched off.)
    Source: van den Oord et al. 2017 (arXiv 1711.00937), equation 3.
    """

    codes: int
    beta: float = 0.25

    @nn.compact
    def __call__(self, z: Array) -> tuple[Array, Array, Array]:
        width = z.shape[-1]
        codebook = self.param("codebook", _init, (self.codes, width), jnp.float32).astype(z.dtype)
        flat = z.reshape(-1, width)
        distances = (flat**2).sum(1, keepdims=True) - 2 * flat @ codebook.T + (codebook**2).sum(1)[None]
        number = jnp.argmin(distances, axis=1)
        found = codebook[number].reshape(z.shape)
        still, axes = jax.lax.stop_gradient, tuple(range(1, z.ndim))
        commitment, codes = ((still(found) - z) ** 2).mean(axes), ((found - still(z)) ** 2).mean(axes)
        return z + still(found - z), self.beta * commitment + codes, number.reshape(z.shape[:-1]).astype(jnp.int32)


def _init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """U(-1 / codes, 1 / codes), as published."""
    return jax.random.uniform(key, shape, dtype, -1 / shape[0], 1 / shape[0])
