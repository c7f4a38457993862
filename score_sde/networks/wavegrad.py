"""WaveGrad's network: U-blocks carry frames up to the waveform's rate, told of the noisy waveform by D-blocks and FiLM.

Source: Chen et al. 2021 (WaveGrad, arXiv 2009.00713), section 3.2 and appendix A. Feature-wise linear modulation: Perez
et al. 2018 (FiLM).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.layers import Conv, Dtype, Init, ddpm_init
from score_sde.networks.remat import remat
from score_sde.typing import Array, Keys

SLOPE = 0.2
"""Of every leaky rectifier."""
SHORT, LONG = (1, 2, 1, 2), (1, 2, 4, 8)
"""Dilations of a U-block's four convolutions."""
DOWN = (1, 2, 4)
"""Those of a D-block's three."""

orthogonal: Init = nn.initializers.orthogonal()


def leaky(x: Array) -> Array:
    """x, or SLOPE x below 0."""
    return jax.nn.leaky_relu(x, SLOPE)


def level_encoding(level: Array, width: int, scale: float = 5000.0) -> Array:
    """Sines, then cosines of scale level 10^(-4 j / (width / 2)): level [B] -> [B, width], float32 at least.

    level: sqrt(alpha_bar) in (0, 1), which the paper multiplies by 5,000; ports of it leave that out (scale 1).
    """
    half = width // 2
    rates = jnp.exp(-math.log(1e4) / half * jnp.arange(half, dtype=level.dtype))
    phase = (scale * level)[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def repeated(x: Array, factor: int) -> Array:
    """x [B, L, C] with every entry `factor` times, [B, factor L, C]."""
    return jnp.repeat(x, factor, axis=1)


class FiLM(nn.Module):
    """What a waveform's features x [B, L, c] say to a U-block of `features`: shift and scale, [B, L, features]."""

    features: int
    level_scale: float = 5000.0
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, level: Array) -> tuple[Array, Array]:
        own: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution, "kernel_init": ddpm_init(1.0)}
        h = leaky(Conv(x.shape[-1], name="input_conv", **own)(x))
        h = h + level_encoding(level, x.shape[-1], self.level_scale)[:, None].astype(h.dtype)
        shift, scale = jnp.split(Conv(2 * self.features, name="output_conv", **own)(h), 2, axis=-1)
        return shift, scale


class DBlock(nn.Module):
    """x [B, L, c] at every `factor`-th place, [B, L / factor, features]: three dilated convolutions beside one of 1."""

    features: int
    factor: int
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        own: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution, "kernel_init": orthogonal}
        h = x = x[:, :: self.factor]
        for i, dilation in enumerate(DOWN):
            h = Conv(self.features, dilation=dilation, name=f"conv_{i}", **own)(leaky(h))
        return h + Conv(self.features, 1, name="residual", **own)(x)


class UBlock(nn.Module):
    """x [B, L, c] -> [B, factor L, features], four times told shift and scale [B, factor L, features] of a D-block."""

    features: int
    factor: int
    dilations: Sequence[int]
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, shift: Array, scale: Array) -> Array:
        own: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution, "kernel_init": orthogonal}
        conv = lambda i, h: Conv(self.features, dilation=self.dilations[i], name=f"conv_{i}", **own)(leaky(h))
        told = lambda h: shift + scale * h
        h = conv(1, told(conv(0, repeated(x, self.factor))))
        h = h + Conv(self.features, 1, name="residual", **own)(repeated(x, self.factor))
        return h + conv(3, told(conv(2, told(h))))


class WaveGrad(nn.Module):
    """x [B, L, C] or [B, L], label [B] = sqrt(alpha_bar), condition["frames"] [B, T', M] -> x's shape, float32.

    L is T' times the product of `factors`, those of the U-blocks from the frames on. up_widths, down_widths: channels
    of the U-blocks, and of the waveform's first convolution and the D-blocks. frames_width: of the frames' first one.
    long_blocks: so many U-blocks, the last ones, have dilations to 8. level_scale: as of `level_encoding`. Without
    frames they are 0, of one channel. It begins at the output 0: what x has passed through is a polynomial of it, which
    an untrained network would make huge. An example's output depends on it alone. ValueError for other lengths.
    """

    factors: tuple[int, ...] = (5, 5, 3, 2, 2)
    up_widths: tuple[int, ...] = (512, 512, 256, 128, 128)
    down_widths: tuple[int, ...] = (32, 128, 128, 256, 512)
    frames_width: int = 768
    long_blocks: int = 3
    level_scale: float = 5000.0
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    remat: str = "none"

    def __post_init__(self) -> None:
        if not len(self.factors) == len(self.up_widths) == len(self.down_widths):
            raise ValueError(
                f"factors {self.factors}, up_widths {self.up_widths} and down_widths {self.down_widths}: give one entry"
                " per block each"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        flat, x = x.ndim == 2, x[..., None] if x.ndim == 2 else x
        frames = self._frames(x, condition)
        own: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution}
        level = label.astype(jnp.promote_types(label.dtype, jnp.float32))
        told = self._told(x.astype(self.dtype), level, own)
        block = remat(UBlock, self.remat)
        h = Conv(self.frames_width, kernel_init=orthogonal, name="first", **own)(frames.astype(self.dtype))
        short = len(self.factors) - self.long_blocks
        for i, (width, factor) in enumerate(zip(self.up_widths, self.factors, strict=True)):
            h = block(width, factor, LONG if i >= short else SHORT, name=f"up_{i}", **own)(h, *told[-1 - i])
        h = Conv(x.shape[-1], kernel_init=ddpm_init(0.0), name="last", **own)(h)
        h = h.astype(jnp.promote_types(h.dtype, jnp.float32))
        return h[..., 0] if flat else h

    def _told(self, x: Array, level: Array, own: dict[str, Any]) -> list[tuple[Array, Array]]:
        """Shift and scale for every U-block, the last one's first."""
        h, found, block = x, [], remat(DBlock, self.remat)
        for i, (width, features) in enumerate(zip(self.down_widths, self.up_widths[::-1], strict=True)):
            if i == 0:
                h = Conv(width, 5, kernel_init=orthogonal, name="down_0", **own)(h)
            else:
                h = block(width, self.factors[-i], name=f"down_{i}", **own)(h)
            found.append(FiLM(features, self.level_scale, name=f"film_{i}", **own)(h, level))
        return found

    def _frames(self, x: Array, condition: Mapping[str, Array] | None) -> Array:
        hop = math.prod(self.factors)
        length = x.shape[1] // hop
        frames = (condition or {}).get("frames", jnp.zeros((len(x), length, 1), x.dtype))
        if x.ndim != 3 or x.shape[1] % hop or frames.shape[:2] != (len(x), length):
            raise ValueError(
                f"x of shape {x.shape} and frames {frames.shape}: give [B, T' {hop}, C] and [B, T', M], as factors"
                f" {self.factors} ask"
            )
        return frames
