"""A critic of pictures that judges patches, each by itself (Isola et al. 2017)."""

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.contract import check_choices
from score_sde.networks.conv import CONVOLUTIONS
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import Conv, Dtype, activation
from score_sde.typing import Array

act = activation("lrelu")


class PatchCritic(nn.Module):
    """x [B, H, W, C] -> logits [B, h, w] float32, high for pictures of the data; H and W are halved `levels` times.

    Convolutions of stride 2 with nf, 2 nf, 4 nf ... channels, up to 8 nf, and two of stride 1. Published with batch
    norm, by which a logit depends on the other examples of its batch; here it is group norm.
    Source: Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.
    """

    nf: int = 64
    levels: int = 3
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    def __post_init__(self) -> None:
        check_choices(self, {"convolution": CONVOLUTIONS})
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        common = {"dtype": self.dtype, "convolution": self.convolution}
        h = x.astype(self.dtype)
        for level in range(self.levels + 1):
            stride = 2 if level < self.levels else 1
            h = Conv(self.nf * min(2**level, 8), stride=stride, **common, name=f"Conv_{level}")(h)
            h = act(GroupNorm(convolution=self.convolution, name=f"GroupNorm_{level}")(h) if level else h)
        return Conv(1, **common, name="logits")(h)[..., 0].astype(jnp.float32)
