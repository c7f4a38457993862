"""Residual and resampling blocks of NCSN++, DDPM++ and DDPM."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import (
    NIN,
    Conv,
    Dense,
    Dropout,
    Dtype,
    FirConv,
    activation,
    ddpm_init,
)
from score_sde.networks.resampling import downsample, naive_downsample, naive_upsample, upsample
from score_sde.typing import Array, Keys

FirKernel = tuple[float, ...]


def resample(
    x: Array, direction: str, fir_kernel: FirKernel | None, form: str, circular: tuple[int, ...] = ()
) -> Array:
    """Double ("up") or halve ("down") space of x [B, *space, C], with the FIR filter or, for None, naively."""
    if fir_kernel is None:
        return (naive_upsample if direction == "up" else naive_downsample)(x, form=form)
    return (upsample if direction == "up" else downsample)(x, fir_kernel, form=form, circular=circular)


class _Residual(nn.Module):
    """What both residual blocks share: their fields and their branch."""

    features: int | None = None
    dropout: float = 0.1
    init_scale: float = 0.0
    groups: int | None = None  # of the GroupNorms
    nonlinearity: str = "swish"
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    circular: tuple[int, ...] = ()

    @property
    def how(self) -> dict[str, Any]:
        """What all convolutions are given."""
        return {"dtype": self.dtype, "convolution": self.convolution, "circular": self.circular}

    def branch(
        self,
        x: Array,
        temb: Array | None,
        keys: Keys | None,
        style: Array | None,
        resample: Callable[[Array], Array] = lambda h: h,
    ) -> Array:
        """Norm, resample, conv, + temb, norm, dropout, conv.

        x [B, *space, C], temb [B, E] or None, dropout keys [B] or None, what the norms' scale and bias are made of
        [B, S] or None -> [B, *space', features].
        """
        act, features = activation(self.nonlinearity), self.features or x.shape[-1]
        norm = {"groups": self.groups, "activation": act, "convolution": self.convolution}
        h = resample(GroupNorm(**norm, name="GroupNorm_0")(x, style))
        vector = None if temb is None else Dense(features, dtype=self.dtype, name="Dense_0")(act(temb))
        h = Conv(features, **self.how, name="Conv_0")(h, vector)
        h = GroupNorm(**norm, name="GroupNorm_1")(h, style)
        h = Dropout(self.dropout, name="Dropout_0")(h, keys)
        return Conv(features, kernel_init=ddpm_init(self.init_scale), **self.how, name="Conv_1")(h)


class ResnetBlockBigGANpp(_Residual):
    """Residual block that resamples both branches if `resample` is "up" or "down" (BigGAN).

    x [B, *space, C], temb [B, E] or None, dropout keys [B] or None, style [B, S] or None (see GroupNorm) ->
    [B, *space', features]; `skip_rescale` divides the sum by sqrt(2). Source: Brock et al. 2019; Song et al. 2021,
    appendix H.
    """

    resample: str = "none"  # none | up | down
    fir_kernel: FirKernel | None = (1, 3, 3, 1)  # None: naive resampling
    skip_rescale: bool = True

    @nn.compact
    def __call__(
        self, x: Array, temb: Array | None = None, keys: Keys | None = None, style: Array | None = None
    ) -> Array:
        features = self.features or x.shape[-1]
        way = (self.resample, self.fir_kernel, self.convolution, self.circular)
        resampled = lambda v: v if self.resample == "none" else resample(v, *way)
        h = self.branch(x, temb, keys, style, resampled)
        x = resampled(x)
        if x.shape[-1] != features or self.resample != "none":
            x = Conv(features, 1, **self.how, name="Conv_2")(x)
        return (x + h) / 2**0.5 if self.skip_rescale else x + h


class ResnetBlockDDPMpp(_Residual):
    """Residual block of DDPM (Ho et al. 2020); as published there, with groups=32.

    x [B, *space, C], temb [B, E] or None, dropout keys [B] or None, style [B, S] or None (see GroupNorm) ->
    [B, *space, features]; `skip_rescale` divides the sum by sqrt(2).
    """

    conv_shortcut: bool = False
    skip_rescale: bool = False

    @nn.compact
    def __call__(
        self, x: Array, temb: Array | None = None, keys: Keys | None = None, style: Array | None = None
    ) -> Array:
        features = self.features or x.shape[-1]
        h = self.branch(x, temb, keys, style)
        if x.shape[-1] != features and self.conv_shortcut:
            x = Conv(features, **self.how, name="Conv_2")(x)
        elif x.shape[-1] != features:
            x = NIN(features, dtype=self.dtype, name="NIN_0")(x)
        return (x + h) / 2**0.5 if self.skip_rescale else x + h


class Combine(nn.Module):
    """Concatenate ("cat") or add ("sum") a convolution of width 1 of the pyramid to the features.

    Pyramid x [B, *space, C], features y [B, *space, D] -> [B, *space, D], or 2 D channels when concatenated.
    """

    method: str = "sum"  # sum | cat
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, y: Array) -> Array:
        h = Conv(y.shape[-1], 1, dtype=self.dtype, name="Conv_0")(x)
        return jnp.concatenate([h, y], axis=-1) if self.method == "cat" else h + y


class Resample(nn.Module):
    """Double ("up") or halve ("down") space of x [B, *space, C]: by a FIR filter, or naively where it is None.

    `with_conv` adds a convolution of width 3 to `features` channels (those of x for None), fused with the filter.
    """

    direction: str  # up | down
    features: int | None = None
    with_conv: bool = False
    fir_kernel: FirKernel | None = (1, 3, 3, 1)
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    circular: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.with_conv:
            return resample(x, self.direction, self.fir_kernel, self.convolution, self.circular)
        features = self.features or x.shape[-1]
        common = {"dtype": self.dtype, "convolution": self.convolution, "circular": self.circular}
        if self.fir_kernel is not None:
            return FirConv(features, self.direction, self.fir_kernel, **common, name="Conv2d_0")(x)
        if self.direction == "up":
            return Conv(features, **common, name="Conv_0")(naive_upsample(x, form=self.convolution))
        return Conv(features, stride=2, **common, name="Conv_0")(x)
