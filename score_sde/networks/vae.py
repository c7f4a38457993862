"""Convolutional encoders and decoders of pictures: latents are vectors, or pictures of fewer pixels themselves."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.contract import check_choices, check_halvings
from score_sde.networks.conv import CONVOLUTIONS
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import Conv, Dense, Dtype, ddpm_init
from score_sde.networks.mlp import VARIANCES, Gaussian, LogVariance
from score_sde.networks.resampling import naive_upsample
from score_sde.typing import Array

REMEDY = "once per further entry of ch_mult: shorten it"


class Encoder(nn.Module):
    """x [B, H, W, C] -> mean and log variance of z [B, *latent], one number for every element of z.

    A level has ch_mult nf channels and num_res_blocks blocks; between two levels a convolution of stride 2 halves H and
    W. latent: (d,), of all features at once, or (H / 2^k, W / 2^k, channels), by a last convolution, which keeps places
    (Rombach et al. 2022). The variance is 1 at first. ValueError: sizes that cannot be halved so often, latents that
    do not fit.
    """

    latent: tuple[int, ...]
    nf: int = 32
    ch_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 1
    variance: str = "diagonal"
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    def __post_init__(self) -> None:
        check_choices(self, {"convolution": CONVOLUTIONS, "variance": VARIANCES})
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array) -> Gaussian:
        check_halvings(x, len(self.ch_mult) - 1, REMEDY)
        common: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution}
        h = Conv(self.nf * self.ch_mult[0], **common, name="Conv_0")(x.astype(self.dtype))
        for level, mult in enumerate(self.ch_mult):
            if level:
                h = Conv(self.nf * mult, stride=2, **common, name=f"Down_{level}")(h)
            for i in range(self.num_res_blocks):
                h = ResBlock(self.nf * mult, **common, name=f"ResBlock_{level}_{i}")(h)
        h = GroupNorm(activation=nn.swish, convolution=self.convolution, name="GroupNorm_0")(h)
        if len(self.latent) == 3:
            if h.shape[1:3] != tuple(self.latent[:2]):
                raise ValueError(
                    f"the last level is {h.shape[1]}x{h.shape[2]}, not the latent {self.latent}: change it"
                )
            return spatial(h, self.latent, self.variance, common)
        h = h.reshape(len(h), -1)
        mean = Dense(math.prod(self.latent), dtype=self.dtype, name="mean")(h)
        log_variance = LogVariance(self.latent, self.variance, self.dtype, name="log_variance")(h)
        return mean.reshape(-1, *self.latent).astype(jnp.float32), log_variance.astype(jnp.float32)


class Decoder(nn.Module):
    """z [B, *latent] -> mean [B, *shape] and log variance of a picture [H, W, C]: the Encoder's levels backwards.

    Between two levels every pixel becomes four, with a convolution behind. variance: one of VARIANCES.
    ValueError: sizes that cannot be halved so often.
    """

    shape: tuple[int, ...]
    nf: int = 32
    ch_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 1
    variance: str = "scalar"
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    def __post_init__(self) -> None:
        check_choices(self, {"convolution": CONVOLUTIONS, "variance": VARIANCES})
        super().__post_init__()

    @nn.compact
    def __call__(self, z: Array) -> Gaussian:
        halvings = len(self.ch_mult) - 1
        check_halvings(jax.ShapeDtypeStruct((1, *self.shape), z.dtype), halvings, REMEDY)  # pyright: ignore
        common: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution}
        height, width = (side >> halvings for side in self.shape[:2])
        widths = [self.nf * mult for mult in self.ch_mult]
        if z.ndim == 4:
            h = Conv(widths[-1], **common, name="Conv_0")(z.astype(self.dtype))
        else:
            h = Dense(height * width * widths[-1], dtype=self.dtype, name="Dense_0")(z.reshape(len(z), -1))
            h = h.reshape(-1, height, width, widths[-1])
        for level in reversed(range(len(widths))):
            for i in range(self.num_res_blocks):
                h = ResBlock(widths[level], **common, name=f"ResBlock_{level}_{i}")(h)
            if level:
                h = naive_upsample(h, form=self.convolution)
                h = Conv(widths[level - 1], **common, name=f"Up_{level}")(h)
        h = GroupNorm(activation=nn.swish, convolution=self.convolution, name="GroupNorm_0")(h)
        return spatial(h, self.shape, self.variance, common)


class ResBlock(nn.Module):
    """x + two convolutions, each behind GroupNorm and swish: x [B, H, W, C] -> [B, H, W, features]."""

    features: int
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        common: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution}
        h = x
        for i, scale in enumerate((1.0, 0.0)):
            h = GroupNorm(activation=nn.swish, convolution=self.convolution, name=f"GroupNorm_{i}")(h)
            h = Conv(self.features, kernel_init=ddpm_init(scale), **common, name=f"Conv_{i}")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, **common, name="Conv_2")(x)
        return x + h


def spatial(h: Array, shape: tuple[int, ...], variance: str, common: dict[str, Any]) -> Gaussian:
    """Features [B, H, W, F] -> mean [B, H, W, C] and log variance, a scalar one of their mean over pixels [B, F]."""
    mean = Conv(shape[-1], **common, name="mean")(h).astype(jnp.float32)
    if variance == "diagonal":
        return mean, Conv(shape[-1], kernel_init=ddpm_init(0.0), **common, name="log_variance")(h).astype(jnp.float32)
    return mean, LogVariance(shape, variance, name="log_variance")(h.astype(jnp.float32).mean((1, 2)))
