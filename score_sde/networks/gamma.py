"""Monotone functions of time, of which noise schedules are learned: gamma(t) = -log SNR (Kingma et al. 2021)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.typing import Array, Time

CURVE = "curve"
"""The parameters of `Gamma` that say how gamma rises between its ends."""


class Line(nn.Module):
    """b + |w| t, at first from `low` at t = 0 to `high` at t = 1; t of any shape, the same shape out.

    Source: Kingma et al. 2021 (arXiv 2107.00630), their code's learnable_scalar.
    """

    low: float
    high: float

    @nn.compact
    def __call__(self, t: Array) -> Array:
        w = self.param("w", initializers.constant(self.high - self.low), (1,), jnp.float32)
        b = self.param("b", initializers.constant(self.low), (1,), jnp.float32)
        w, b = (jnp.asarray(v, t.dtype)[0] for v in (w, b))
        return b + jnp.abs(w) * t


class Curve(nn.Module):
    """l1(t) + l3(tanh(l2(2 t - 1) / 2)) / features, all weights by their magnitude, so that it rises everywhere.

    l1 is a line, at first from `low` to `high`; l2 is linear, to so many features. t of any shape, the same shape out.
    Source: Kingma et al. 2021 (arXiv 2107.00630), appendix H and their code's learnable_nnet.
    """

    low: float
    high: float
    features: int = 1024

    @nn.compact
    def __call__(self, t: Array) -> Array:
        slope = initializers.constant(self.high - self.low)
        line = _Monotone(1, slope, initializers.constant(self.low), name="l1")(t[..., None])
        hidden = jnp.tanh(_Monotone(self.features, name="l2")(2 * t[..., None] - 1) / 2)
        bend = _Monotone(1, use_bias=False, name="l3")(hidden)
        return (line + bend / self.features)[..., 0]


class Gamma(nn.Module):
    """gamma(t) on [0, 1], rising from gamma(0), at first `low`, to gamma(1), at first `high`.

    gamma(t) = gamma(0) + (gamma(1) - gamma(0)) c(t), where c rises from 0 to 1: t, or a `Curve` of so many features
    brought to these ends. Parameters: "ends", a `Line`, unless they are fixed, and "curve", unless features is 0. So
    neither moves the other. The value has the shape and dtype of t. Source: Kingma et al. 2021 (arXiv
    2107.00630), appendix H.
    """

    low: float = -13.3
    high: float = 5.0
    fixed: bool = False
    features: int = 0

    @nn.compact
    def __call__(self, t: Time) -> Array:
        t = jnp.asarray(t, dtype=float if isinstance(t, float | int) else None)
        share = t
        if self.features:
            curve = Curve(0.0, 1.0, self.features, name=CURVE)
            first, last = curve(jnp.zeros((), t.dtype)), curve(jnp.ones((), t.dtype))
            share = (curve(t) - first) / (last - first)
        return (
            self.low + (self.high - self.low) * share if self.fixed else Line(self.low, self.high, name="ends")(share)
        )


class _Monotone(nn.Module):
    """x |kernel| + bias: x [..., K] -> [..., features]."""

    features: int
    kernel_init: jax.nn.initializers.Initializer = initializers.lecun_normal()
    bias_init: jax.nn.initializers.Initializer = initializers.zeros
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = jnp.tensordot(x, jnp.abs(jnp.asarray(kernel, x.dtype)), 1, precision="highest")
        if not self.use_bias:
            return y
        bias = jnp.asarray(self.param("bias", self.bias_init, (self.features,), jnp.float32), x.dtype)
        return y + bias.reshape((1,) * (x.ndim - 1) + (self.features,))
