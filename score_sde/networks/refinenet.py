"""Norms and blocks of the NCSN family: RefineNet blocks with InstanceNorm++ (Song & Ermon 2019, 2020)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import initializers

from score_sde.networks.layers import Conv, Dtype, Names, activation, channel_vector, ncsn_bias, ncsn_init
from score_sde.networks.resampling import naive_downsample_2d
from score_sde.typing import Array

EPS = 1e-5


def ncsn_conv(features: int, name: str, *, size: int = 3, dilation: int = 1, bias: bool = True) -> Conv:
    """Convolution with the NCSN initialisation of kernel and bias."""
    init, bias_init = ncsn_init(1.0), ncsn_bias(1.0)
    return Conv(features, size, dilation=dilation, use_bias=bias, kernel_init=init, bias_init=bias_init, name=name)


def around_one(key: Array, shape: Sequence[int], dtype: Dtype = jnp.float32) -> Array:
    """Draw from N(1, 0.02^2)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def standardise(x: Array, axes: tuple[int, ...], *, centre: bool = True) -> Array:
    """(x - mean) / sqrt(var + 1e-5) over `axes`, the variance being the population's; float32."""
    x = x.astype(jnp.float32)
    centred = x - x.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred if centre else x) * lax.rsqrt(variance + EPS)


def instance_norm_plus(x: Array, gamma: Array, alpha: Array, beta: Array) -> Array:
    """InstanceNorm++: y = gamma (standardised x + alpha standardised means) + beta.

    x [B, H, W, C], the rest [1 or B, 1, 1, C]. The means of x over H and W, standardised over channels, keep the
    contrast between channels that instance norm removes. Source: Song & Ermon 2019, appendix A.
    """
    means = standardise(x.astype(jnp.float32).mean((1, 2), keepdims=True), (3,))
    return (gamma * (standardise(x, (1, 2)) + means * alpha) + beta).astype(x.dtype)


class InstanceNorm2d(nn.Module):
    """Per example and channel: scale (x - mean) / sqrt(var + eps) + bias, x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1, 1, 1, x.shape[-1])
        scale = self.param("scale", initializers.ones, shape, jnp.float32)
        bias = self.param("bias", initializers.zeros, shape, jnp.float32)
        return (standardise(x, (1, 2)) * scale + bias).astype(x.dtype)


class VarianceNorm2d(nn.Module):
    """Per example and channel: scale x / sqrt(var + eps), x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", around_one, (1, 1, 1, x.shape[-1]), jnp.float32)
        return (standardise(x, (1, 2), centre=False) * scale).astype(x.dtype)


class InstanceNorm2dPlus(nn.Module):
    """`instance_norm_plus` with learned gamma, alpha and beta: x [B, H, W, C]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (1, 1, 1, x.shape[-1])
        gamma = self.param("gamma", around_one, shape, jnp.float32)
        alpha = self.param("alpha", around_one, shape, jnp.float32)
        beta = self.param("beta", initializers.zeros, shape, jnp.float32)
        return instance_norm_plus(x, gamma, alpha, beta)


class ConditionalInstanceNorm2dPlus(nn.Module):
    """`instance_norm_plus` whose gamma, alpha and beta belong to a class: x [B, H, W, C], integer label [B]."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Array, label: Array) -> Array:
        table = nn.Embed(self.num_classes, 3 * x.shape[-1], embedding_init=_conditional_init, name="Embed_0")
        gamma, alpha, beta = (channel_vector(v) for v in jnp.split(table(label), 3, axis=-1))
        return instance_norm_plus(x, gamma, alpha, beta)


def _conditional_init(key: Array, shape: Sequence[int], dtype: Dtype) -> Array:
    classes, width = shape
    ones = around_one(key, (classes, 2 * width // 3), dtype)
    return jnp.concatenate([ones, jnp.zeros((classes, width // 3), dtype)], axis=-1)


class ConvMeanPool(nn.Module):
    """Convolution, then the mean of disjoint 2x2 squares: x [B, H, W, C] -> [B, H / 2, W / 2, features]."""

    features: int
    kernel_size: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = initializers.lecun_normal()
        return naive_downsample_2d(Conv(self.features, self.kernel_size, kernel_init=init, name="Conv_0")(x))


class RCUBlock(nn.Module):
    """Residual chain: `num_blocks` times x + (convolution of activation, `num_stages` times); x [B, H, W, features]."""

    features: int
    num_blocks: int
    num_stages: int
    nonlinearity: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        act, names = activation(self.nonlinearity), Names()
        for _ in range(self.num_blocks):
            residual = x
            for _ in range(self.num_stages):
                x = ncsn_conv(self.features, names("Conv"), bias=False)(act(x))
            x = x + residual
        return x


class MSFBlock(nn.Module):
    """Sum of the inputs' convolutions, resized to one shape: each x [B, H_i, W_i, C_i] -> [B, *shape, features]."""

    shape: tuple[int, int]
    features: int
    interpolation: str = "bilinear"  # bilinear | nearest_neighbor

    @nn.compact
    def __call__(self, xs: Sequence[Array]) -> Array:
        method = {"bilinear": "bilinear", "nearest_neighbor": "nearest"}[self.interpolation]
        names, resized = Names(), []
        for x in xs:
            h = ncsn_conv(self.features, names("Conv"))(x)
            resized.append(jax.image.resize(h, (h.shape[0], *self.shape, self.features), method))
        return sum(resized[1:], resized[0])


class CRPBlock(nn.Module):
    """Chained pooling: x + sum of convolutions of ever wider 5x5 maxima; x [B, H, W, features]."""

    features: int
    num_stages: int = 2
    nonlinearity: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = activation(self.nonlinearity)(x)
        path, names = x, Names()
        for _ in range(self.num_stages):
            path = nn.max_pool(path, (5, 5), (1, 1), "SAME")
            path = ncsn_conv(self.features, names("Conv"), bias=False)(path)
            x = path + x
        return x


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut: x [B, H, W, C] -> [B, H', W', features].

    With `down` the size is halved for dilation 1, and kept for a larger dilation, which widens the view instead.
    """

    features: int
    down: bool = False
    dilation: int = 1
    nonlinearity: str = "elu"
    norm: Callable[..., nn.Module] = InstanceNorm2dPlus
    norm_name: str = "InstanceNorm2dPlus"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        act, names = activation(self.nonlinearity), Names()
        conv = lambda features, size=3: ncsn_conv(features, names("Conv"), size=size, dilation=self.dilation)
        norm = lambda: self.norm(name=names(self.norm_name))
        pooled = self.down and self.dilation == 1
        shortcut = None
        if not self.down and x.shape[-1] != self.features:
            shortcut = conv(self.features, 1 if self.dilation == 1 else 3)  # named first: Conv_0
        h = conv(x.shape[-1] if self.down else self.features)(act(norm()(x)))
        h = act(norm()(h))
        if pooled:
            h = ConvMeanPool(self.features, 3, name="ConvMeanPool_0")(h)
            return h + ConvMeanPool(self.features, 1, name="ConvMeanPool_1")(x)
        h = conv(self.features)(h)
        if self.down:
            shortcut = conv(self.features)
        return h + (x if shortcut is None else shortcut(x))
