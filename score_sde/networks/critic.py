"""A critic of denoising steps: how real x_s is, a step before x_t (Xiao et al. 2021)."""

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.contract import check_choices, check_halvings
from score_sde.networks.conv import CONVOLUTIONS
from score_sde.networks.layers import Conv, Dense, Dtype, activation, ddpm_init, positional_embedding
from score_sde.networks.resampling import downsample
from score_sde.typing import Array

FIR = (1, 3, 3, 1)
act = activation("lrelu")


class Critic(nn.Module):
    """x_s and x_t [B, H, W, C], label [B] -> logits [B] float32, high for x_s of the data.

    The channels of both are joined; label, any number, is embedded in `embedding` numbers, which every block adds. A
    level has ch_mult nf channels, and all but the first halve H and W. Behind one more convolution the features are
    summed over all pixels. Published with one more channel there, the mean standard deviation of groups of four
    examples, which is left out: by it a logit depends on the other examples of its batch.
    ValueError: a size that cannot be halved often enough. Source: Xiao et al. 2021 (arXiv 2112.07804), appendix C.
    """

    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    embedding: int = 256
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    def __post_init__(self) -> None:
        check_choices(self, {"convolution": CONVOLUTIONS})
        super().__post_init__()

    @nn.compact
    def __call__(self, x_s: Array, x_t: Array, label: Array) -> Array:
        remedy = "once per further entry of the critic's ch_mult: shorten it"
        check_halvings(x_s, len(self.ch_mult) - 1, remedy)
        embedding = positional_embedding(label, self.embedding)
        embedding = act(Dense(self.embedding, name="Dense_0")(embedding))
        embedding = act(Dense(self.embedding, name="Dense_1")(embedding))
        common = {"dtype": self.dtype, "convolution": self.convolution}
        h = jnp.concatenate([x_s, x_t], axis=-1).astype(self.dtype)
        h = Conv(self.nf * self.ch_mult[0], 1, **common, name="Conv_0")(h)
        for level, mult in enumerate(self.ch_mult):
            h = CriticBlock(self.nf * mult, level > 0, **common, name=f"CriticBlock_{level}")(h, embedding)
        h = act(Conv(h.shape[-1], **common, name="Conv_1")(h)).astype(jnp.float32)
        return Dense(1, name="Dense_2")(h.sum((1, 2)))[:, 0]


class CriticBlock(nn.Module):
    """Activation, conv, + embedding, activation, halving if `down`, conv; plus a 1x1 of x, over sqrt(2).

    x [B, H, W, C], embedding [B, E] -> [B, H', W', features].
    """

    features: int
    down: bool
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, embedding: Array) -> Array:
        common = {"dtype": self.dtype, "convolution": self.convolution}
        vector = Dense(self.features, dtype=self.dtype, name="Dense_0")(embedding)
        h = act(Conv(self.features, **common, name="Conv_0")(act(x), vector))
        if self.down:
            h, x = (downsample(v, FIR, form=self.convolution) for v in (h, x))
        h = Conv(self.features, kernel_init=ddpm_init(0.0), **common, name="Conv_1")(h)
        return (h + Conv(self.features, 1, use_bias=False, **common, name="Conv_2")(x)) / 2**0.5
