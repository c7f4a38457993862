"""ADM's noise-conditional classifier: the way down of its U-Net and a pooling (Dhariwal & Nichol 2021, section 4)."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.networks.adm import EPS, Pass, Trunk, apart
from score_sde.networks.attention import attend_heads
from score_sde.networks.contract import check_choices
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import NIN, Conv, Dtype, ncsn_init
from score_sde.typing import Array, Keys

POOLS = ("attention", "adaptive")


class AttentionPool(nn.Module):
    """What the mean pixel's token sees of all pixels: x [B, H, W, C] -> [B, features] float32.

    Tokens are the mean and the pixels, each with its row of a learned position [C, H W + 1]; C / head_channels heads.
    Source: Radford et al. 2021, as Dhariwal & Nichol 2021 use it.
    """

    features: int
    head_channels: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        position = self.param("positional_embedding", initializers.normal(c**-0.5), (c, h * w + 1), jnp.float32)
        pixels = x.reshape(b, h * w, c)
        tokens = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], axis=1)
        tokens = tokens + position.T[None].astype(tokens.dtype)
        qkv = NIN(3 * c, init_scale=1.0, dtype=self.dtype, name="qkv")(tokens)
        o = attend_heads(*apart(qkv, c // self.head_channels, "new")).reshape(b, h * w + 1, c)
        return NIN(self.features, init_scale=1.0, dtype=self.dtype, name="proj")(o[:, 0])


class ADMEncoder(Trunk):
    """Noise-conditional classifier: x [B, H, W, C], label [B] -> logits [B, out_channels] float32.

    label: as ADM's. pool: attention, or adaptive for a linear map of the means over all pixels. Source: Dhariwal &
    Nichol 2021. ValueError: an unknown option, sizes that do not divide, no out_channels.
    """

    pool: str = "attention"  # attention | adaptive

    def __post_init__(self) -> None:
        check_choices(self, {"pool": POOLS})
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
        del sigma
        if self.out_channels is None:
            raise ValueError("out_channels is None: give it the number of classes")
        state = Pass(self.embed(label, condition or {}), dropout_keys)
        h = self.middle(state, self.encode(state, x)[-1])
        h = GroupNorm(self.groups, jax.nn.swish, EPS, self.convolution, name="out_norm")(h)
        if self.pool == "attention":
            return AttentionPool(self.out_channels, self.head_channels, self.dtype, name="pool")(h).astype(jnp.float32)
        h = h.mean((1, 2), keepdims=True)
        conv = Conv(self.out_channels, 1, kernel_init=ncsn_init(), dtype=self.dtype, name="out_conv")
        return conv(h)[:, 0, 0].astype(jnp.float32)
