"""Gaussians whose mean and variance a network of dense layers makes: encoders and decoders of anything that is flat."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.networks.contract import check_choices
from score_sde.networks.layers import Dense, Dtype, at_least_float32, ddpm_init
from score_sde.typing import Array

Gaussian = tuple[Array, Array]
"""Mean [B, ...] and log variance, of the mean's rank and broadcasting against it."""

VARIANCES = ("scalar", "diagonal", "constant_scalar", "constant_diagonal")
"""scalar: one number for all elements; diagonal: one for each; constant: whatever the input, a parameter."""


class MLP(nn.Module):
    """x [B, ...] -> mean [B, *shape] and log variance: `hidden` layers with ReLU, and a linear one for either.

    With one layer this is the encoder and the decoder of the variational autoencoder of lectures (Kingma & Welling
    2013, appendix C.2, with ReLU), without any a linear-Gaussian model. variance: one of VARIANCES, which start at 1.
    ValueError for another.
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...] = (400,)
    variance: str = "diagonal"
    dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        check_choices(self, {"variance": VARIANCES})
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array) -> Gaussian:
        h = x.reshape(len(x), -1)
        for i, width in enumerate(self.hidden):
            h = jax.nn.relu(Dense(width, dtype=self.dtype, name=f"Dense_{i}")(h))
        mean = Dense(math.prod(self.shape), dtype=self.dtype, name="mean")(h)
        log_variance = LogVariance(self.shape, self.variance, self.dtype, name="log_variance")(h)
        wide = at_least_float32(self.dtype)
        return mean.reshape(-1, *self.shape).astype(wide), log_variance.astype(wide)


class LogVariance(nn.Module):
    """Features [B, F] -> log variance [B or 1, ...] that broadcasts against [B, *shape], 0 at first up to 1e-5."""

    shape: tuple[int, ...]
    variance: str
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, h: Array) -> Array:
        shape = self.shape if self.variance.endswith("diagonal") else (1,) * len(self.shape)
        if self.variance.startswith("constant"):
            return self.param("bias", initializers.zeros, shape, jnp.float32)[None]
        features = Dense(math.prod(shape), ddpm_init(0.0), self.dtype, name="Dense_0")(h)
        return features.reshape(-1, *shape)
