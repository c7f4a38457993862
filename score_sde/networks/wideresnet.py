"""The noise-conditional wide residual network that classifies noisy images, for guidance (Song et al. 2021, I.1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from score_sde.networks.contract import check_halvings
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import (
    Conv,
    Dense,
    Dtype,
    GaussianFourierProjection,
    Init,
    channel_vector,
)
from score_sde.networks.resampling import naive_downsample
from score_sde.typing import Array

CIFAR10_MEAN = (0.49139968, 0.48215841, 0.44653091)
CIFAR10_STD = (0.24703223, 0.24348513, 0.26158784)
GROUP_NORM_EPS = 1e-5
KERNEL_INIT = initializers.variance_scaling(2.0, "fan_out", "normal")


def normalise_cifar10(x: Array) -> Array:
    """(x - mean) / std with CIFAR-10's means and deviations per channel, which the classifier expects: x [B, H, W, 3].

    x lies in [0, 1] up to the noise on it.
    """
    mean, std = (channel_vector(jnp.asarray(v, x.dtype), x) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return (x - mean) / std


def standardise_image(x: Array) -> Array:
    """(x - mean) / max(std, 1 / sqrt(H W C)) over each whole image: x [B, H, W, C] -> float32."""
    x = x.astype(jnp.float32)
    centred = x - x.mean((1, 2, 3), keepdims=True)
    variance = jnp.square(centred).mean((1, 2, 3), keepdims=True)
    return centred / jnp.sqrt(jnp.maximum(variance, 1 / np.prod(x.shape[1:])))


class WideResnetBlock(nn.Module):
    """Two convolutions after GroupNorm and relu, the first of stride `stride`, and a shortcut without parameters.

    x [B, H, W, C], temb [B, E] -> [B, H / stride, W / stride, features]. Where the width grows, the shortcut is the
    mean of stride x stride squares with zeros for the new channels. Source: Zagoruyko & Komodakis 2016.
    """

    features: int
    stride: int = 1  # 1 | 2
    activate_before_residual: bool = False
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, temb: Array) -> Array:
        common = {"use_bias": False, "kernel_init": KERNEL_INIT, "dtype": self.dtype, "convolution": self.convolution}
        embed = Dense(self.features, initializers.lecun_normal(), self.dtype, name="Dense_0")
        norm = {"activation": nn.relu, "eps": GROUP_NORM_EPS, "convolution": self.convolution}
        h = GroupNorm(**norm, name="init_bn")(x)
        shortcut = self._shortcut(h if self.activate_before_residual else x)
        h = Conv(self.features, stride=self.stride, **common, name="conv1")(h, embed(nn.swish(temb)))
        h = GroupNorm(**norm, name="bn_2")(h)
        return shortcut + Conv(self.features, **common, name="conv2")(h)

    def _shortcut(self, x: Array) -> Array:
        if x.shape[-1] == self.features:
            return x
        x = naive_downsample(x, form=self.convolution) if self.stride == 2 else x
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))


class WideResnetGroup(nn.Module):
    """`num_blocks` blocks of one width, the first with the stride: x [B, H, W, C], temb [B, E]."""

    features: int
    num_blocks: int
    stride: int = 1
    activate_before_residual: bool = False  # in the first block
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, temb: Array) -> Array:
        for i in range(self.num_blocks):
            first = (self.stride, self.activate_before_residual) if i == 0 else (1, False)
            block = WideResnetBlock(self.features, *first, self.dtype, self.convolution, name=f"WideResnetBlock_{i}")
            x = block(x, temb)
        return x


class WideResNet(nn.Module):
    """Classifier of noisy images: normalised x [B, H, W, C], sigma [B] -> logits [B, num_classes] float32.

    WRN-28-10 by default, published for CIFAR-10 under the noise of the variance-exploding SDE; x is normalised by the
    caller (`normalise_cifar10`). `convolution`: one of conv.CONVOLUTIONS. ValueError: H or W is not a multiple of four.
    """

    blocks_per_group: int = 4
    widen_factor: int = 10
    num_classes: int = 10
    embedding_features: int = 128
    fourier_scale: float = 16.0
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, sigma: Array) -> Array:
        check_halvings(x, 2, "as the last two groups do: pad the images")
        common = {"dtype": self.dtype, "convolution": self.convolution}
        temb = self._embed(sigma)
        x = standardise_image(x)
        x = Conv(16, use_bias=False, kernel_init=KERNEL_INIT, **common, name="init_conv")(x)
        for i, (features, stride) in enumerate(((16, 1), (32, 2), (64, 2))):
            width, name = features * self.widen_factor, f"WideResnetGroup_{i}"
            x = WideResnetGroup(width, self.blocks_per_group, stride, i == 0, **common, name=name)(x, temb)
        norm = {"activation": nn.relu, "eps": GROUP_NORM_EPS, "convolution": self.convolution}
        x = GroupNorm(**norm, name="pre-pool-bn")(x)
        pooled = x.astype(jnp.float32).mean((1, 2))
        return Dense(self.num_classes, logits_init(self.num_classes), name="Dense_2")(pooled)

    def _embed(self, sigma: Array) -> Array:
        """Noise levels [B] -> [B, 4 embedding_features] float32, from their logarithms."""
        width, init = 4 * self.embedding_features, initializers.lecun_normal()
        fourier = GaussianFourierProjection(
            self.embedding_features, self.fourier_scale, name="GaussianFourierProjection_0"
        )
        hidden = Dense(width, init, name="Dense_0")(fourier(jnp.log(sigma.astype(jnp.float32))))
        return Dense(width, init, name="Dense_1")(nn.swish(hidden))


def logits_init(num_classes: int) -> Init:
    """U(-1, 1) / sqrt(num_classes)."""
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -1, 1) / np.sqrt(num_classes)
