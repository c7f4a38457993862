"""Small layers: initialisers, normalisation, convolutions, dropout with one key per example, embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import initializers

from score_sde.networks.conv import convolve, pointwise
from score_sde.networks.remat import product
from score_sde.networks.resampling import conv_downsample, upsample_conv
from score_sde.typing import Array, Keys

Dtype = Any
Activation = Callable[[Array], Array]
Init = Callable[..., Array]
BiasInit = Callable[[Array, Sequence[int]], Array]


def at_least_float32(dtype: Dtype) -> Dtype:
    """The dtype, or float32 in the place of a narrower one."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32


def elu(x: Array) -> Array:
    """x where x > 0, else e^x - 1: in float32 at least, as 8 bits leave nothing of the difference near 0."""
    return jax.nn.elu(x.astype(at_least_float32(x.dtype))).astype(x.dtype)


ACTIVATIONS: dict[str, Activation] = {
    "elu": elu,
    "relu": jax.nn.relu,
    "lrelu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "swish": jax.nn.swish,
}


class Names:
    """Counts explicit submodule names: names("Conv") is "Conv_0", then "Conv_1".

    The published checkpoints have these names; given explicitly, they outlive any renaming of our classes.
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, kind: str) -> str:
        index = self._next.get(kind, 0)
        self._next[kind] = index + 1
        return f"{kind}_{index}"


def activation(name: str) -> Activation:
    """The activation of that name; ValueError for any other."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown nonlinearity {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def ddpm_init(scale: float = 1.0) -> Init:
    """U(-L, L) with L = sqrt(3 scale / mean(fan_in, fan_out)); scale 0 stands for 1e-10 (Ho et al. 2020)."""
    return initializers.variance_scaling(scale or 1e-10, "fan_avg", "uniform")


def ncsn_init(scale: float = 1.0) -> Init:
    """U(-L, L) with L = sqrt(scale / fan_in), PyTorch's default for scale 1; scale 0 stands for 1e-10."""
    return initializers.variance_scaling((scale or 1e-10) / 3, "fan_in", "uniform")


def zero_bias(key: Array, kernel_shape: Sequence[int]) -> Array:
    """Zeros [features], whatever the key."""
    del key
    return jnp.zeros(kernel_shape[-1:], jnp.float32)


def ncsn_bias(scale: float = 1.0) -> BiasInit:
    """The law of `ncsn_init` with the kernel's fan_in: [features]."""

    def init(key: Array, kernel_shape: Sequence[int]) -> Array:
        limit = float(np.sqrt((scale or 1e-10) / np.prod(kernel_shape[:-1])))
        return jax.random.uniform(key, kernel_shape[-1:], jnp.float32, -limit, limit)

    return init


def channel_vector(v: Array, x: Array) -> Array:
    """[C] or [B, C] -> [1 or B, 1, ..., 1, C], as many axes as x [B, *space, C] has."""
    return v.reshape(-1, *(1,) * (x.ndim - 2), v.shape[-1])


def add_channels(x: Array, v: Array) -> Array:
    """x [B, ..., C] + v [C] or [B, C] at every pixel, in the dtype of x.

    Added as float32: the gradient of v is a sum over all pixels, which bfloat16 would lose.
    """
    wide = at_least_float32(x.dtype)
    return (x.astype(wide) + channel_vector(v, x).astype(wide)).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with parameters `kernel` [k, ..., k, C, features] and `bias` [features]: x [B, *space, C].

    The kernel has one k for every axis of space; circular: those axes that close to a circle (conv.py). A vector
    [B, features] may be added with the bias, so that the gradients of both are one sum over the pixels.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    kernel_init: Init = ddpm_init(1.0)
    bias_init: BiasInit = zero_bias
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    circular: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, vector: Array | None = None) -> Array:
        shape = (*[self.kernel_size] * (x.ndim - 2), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        how = {"form": self.convolution, "circular": self.circular}
        y = convolve(x, kernel, stride=self.stride, dilation=self.dilation, **how)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, shape)
            vector = bias if vector is None else lax.optimization_barrier(bias[None] + vector.astype(bias.dtype))
        return product(y if vector is None else add_channels(y, vector))


class FirConv(nn.Module):
    """Convolution of width 3 with parameters `weight` and `bias` fused with FIR resampling by two: x [B, *space, C]."""

    features: int
    resample: str = "none"  # none | up | down
    fir_kernel: tuple[float, ...] | None = (1, 3, 3, 1)
    kernel_init: Init = ddpm_init(1.0)
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    circular: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*[3] * (x.ndim - 2), x.shape[-1], self.features)
        weight = self.param("weight", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", initializers.zeros, (self.features,), jnp.float32)
        x, weight = x.astype(self.dtype), weight.astype(self.dtype)
        how = {"form": self.convolution, "circular": self.circular}
        if self.resample == "up":
            y = upsample_conv(x, weight, self.fir_kernel, **how)
        elif self.resample == "down":
            y = conv_downsample(x, weight, self.fir_kernel, **how)
        else:
            y = convolve(x, weight, **how)
        return product(add_channels(y, bias))


class Dense(nn.Module):
    """y = x kernel + bias on vectors: x [B, C] -> [B, features]."""

    features: int
    kernel_init: Init = ddpm_init(1.0)
    dtype: Dtype = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return product(y)
        bias = self.param("bias", initializers.zeros, (self.features,), jnp.float32)
        return product(add_channels(y, bias))


class NIN(nn.Module):
    """y = x W + b at every pixel: x [B, ..., C] -> [B, ..., features] ("network in network")."""

    features: int
    init_scale: float = 0.1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        weight = self.param("W", ddpm_init(self.init_scale), (x.shape[-1], self.features), jnp.float32)
        bias = self.param("b", initializers.zeros, (self.features,), jnp.float32)
        return product(add_channels(pointwise(x.astype(self.dtype), weight.astype(self.dtype)), bias))


class Dropout(nn.Module):
    """Inverted dropout y = x mask / (1 - rate), one mask per example drawn from its own key; keys None turns it off.

    x [B, ...], keys [B] typed PRNG keys. The rate is rounded to a multiple of 2^-16 (16 random bits per element), and
    the survivors are scaled by exactly the rounded rate's inverse.
    """

    rate: float

    def __call__(self, x: Array, keys: Keys | None) -> Array:
        dropped = round(self.rate * 2**16)
        if keys is None or dropped == 0:
            return x
        kept = jax.vmap(lambda key: mask(key, x.shape[1:], dropped))(keys)
        scaled = x.astype(jnp.float32) * (2**16 / (2**16 - dropped))
        return jnp.where(kept, scaled, 0.0).astype(x.dtype)


def mask(key: Array, shape: Sequence[int], dropped: int) -> Array:
    """True with probability 1 - dropped / 2^16, bool [shape], two from each random word: half the cost of one each.

    The lower halves come first along the first axis, then the upper ones. Taken apart by a bitcast they would cost a
    TPU more than ten times as much, which lays such a pair out as an axis of two; joined as numbers, twice as much.
    """
    rows, *rest = shape
    words = jax.random.bits(key, ((rows + 1) // 2, *rest), jnp.uint32)
    return jnp.concatenate([(words & 0xFFFF) >= dropped, (words >> 16) >= dropped])[:rows]


def fold_in(keys: Keys, number: int) -> Keys:
    """Keys [B] -> keys [B] of the children with that number."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


class GaussianFourierProjection(nn.Module):
    """[sin(2 pi v W), cos(2 pi v W)] with constant frequencies W ~ N(0, scale^2): v [B] -> [B, 2 features] float32.

    W is a parameter by name only: its gradient is stopped. Source: Tancik et al. 2020.
    """

    features: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, v: Array) -> Array:
        frequencies = self.param("W", initializers.normal(self.scale), (self.features,), jnp.float32)
        phase = v.astype(jnp.float32)[:, None] * lax.stop_gradient(frequencies)[None, :] * 2 * jnp.pi
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)


def positional_embedding(v: Array, features: int) -> Array:
    """[sin(v f_k), cos(v f_k)], f_k = 10000^(-k / (half - 1)), zero-padded if odd: v [B] -> [B, features] float32.

    Source: Vaswani et al. 2017, with all sines before all cosines.
    """
    half = features // 2
    frequencies = jnp.exp(jnp.arange(half, dtype=jnp.float32) * (-np.log(10000) / (half - 1)).astype(np.float32))
    phase = v.astype(jnp.float32)[:, None] * frequencies[None, :]
    embedding = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, features - 2 * half)))
