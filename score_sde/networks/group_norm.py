"""GroupNorm with the activation behind it: one pass over the input for the statistics, two sums for its gradients."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.nn import initializers

from score_sde.networks.layers import Activation, Dense, channel_vector
from score_sde.typing import Array

STATISTICS = "statistics"
_KEPT = jax.checkpoint_policies.save_only_these_names(STATISTICS)
"""What is kept for a GroupNorm's gradient beside its input."""


def group_count(channels: int, groups: int | None = None) -> int:
    """The groups of a GroupNorm: those given, or by the NCSN++ rule min(C // 4, 32)."""
    return min(channels // 4, 32) if groups is None else groups


class GroupNorm(nn.Module):
    """y = act((x - mean) / sqrt(var + eps) * scale + bias) over space and each group's channels; float32 statistics.

    x [B, *space, C]; `groups` None is the rule of `group_count`; `activation` None is the identity. A gradient keeps x
    and the statistics, and computes the rest again; `convolution`: the form that the network's have, on which depends
    whether the compiler may see through that. style [B, E]: scale and bias are each example's own, 1 + a and b of a
    linear layer of it (Xiao et al. 2021). ValueError if the groups do not divide C.
    """

    groups: int | None = None
    activation: Activation | None = None
    eps: float = 1e-6
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, style: Array | None = None) -> Array:
        c = x.shape[-1]
        groups = group_count(c, self.groups)
        if groups < 1 or c % groups:
            raise ValueError(f"GroupNorm cannot split {c} channels into {groups} groups: use another width")
        if style is None:
            scale = self.param("scale", initializers.ones, (c,), jnp.float32)
            bias = self.param("bias", initializers.zeros, (c,), jnp.float32)
        else:
            scale, bias = jnp.split(Dense(2 * c, name="style")(style), 2, axis=-1)
            scale = 1 + scale

        def normalised(x: Array, scale: Array, bias: Array) -> Array:
            y = normalise(x, scale, bias, groups, self.eps).astype(x.dtype)
            return y if self.activation is None else self.activation(y)

        # A TPU's compiler puts the sums of both passes into the convolutions, unless a barrier keeps them apart; of
        # itself it keeps as little as with one. CPU's would keep all.
        barrier = self.convolution != "depthwise"
        return jax.checkpoint(normalised, policy=_KEPT, prevent_cse=barrier)(x, scale, bias)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def normalise(x: Array, scale: Array, bias: Array, groups: int, eps: float) -> Array:
    """y = u scale + bias, u = (x - mean) / sqrt(var + eps) by groups of channels: x [B, *space, C], [C] or [B, C].

    y is float32, or finer where x is.
    """
    u, _ = _standardised(x, groups, eps)
    return u * channel_vector(scale, x) + channel_vector(bias, x)


@normalise.defjvp
def _normalise_jvp(groups: int, eps: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """dy = r scale dx + a + b u, a = dbias - r scale E[dx], b = dscale - r scale E[u dx], r = 1 / sqrt(var + eps).

    E is the mean over pixels and the group; a and b are [B, C]: transposed, two sums over pixels give all gradients.
    """
    (x, *vectors), (dx, *changes) = primals, tangents
    (scale, bias), (dscale, dbias) = (
        (v.reshape(-1, v.shape[-1]) for v in pair) for pair in (vectors, changes)
    )  # [1 or B, C]
    u, r = _standardised(x, groups, eps)
    dx = dx.astype(u.dtype)
    factor = r * scale
    a, b = (d - factor * _group_mean(v.mean(_space(x)), groups) for d, v in ((dbias, dx), (dscale, u * dx)))
    y = u * channel_vector(scale, x) + channel_vector(bias, x)
    return y, channel_vector(factor, x) * dx + channel_vector(a, x) + u * channel_vector(b, x)


def _standardised(x: Array, groups: int, eps: float) -> tuple[Array, Array]:
    """(x - mean) r [B, *space, C] and r = 1 / sqrt(var + eps) [B, C], by one pass over x for both statistics.

    These are of x - s, s about every channel's mean (that of the first row): so near it, E[v^2] - E[v]^2 rounds as
    E[(v - E[v])^2] does, which would take a second pass. Numbers of 16 bits, whose own rounding is more than what
    E[x^2] - E[x]^2 loses in float32, are taken as they are: on TPU no pass at all, but a part of what makes x.
    """
    fine = jnp.promote_types(x.dtype, jnp.float32)
    short, x, space = x.dtype.itemsize < 4, x.astype(fine), _space(x)
    shift = jnp.expand_dims(jnp.zeros((), fine), (0, *space, -1)) if short else x[:, :1].mean(space, keepdims=True)
    first, second = (v.mean(space) for v in (x - shift, jnp.square(x - shift)))
    means = first + shift[:, *(0 for _ in space)]
    mean = _group_mean(means, groups)
    variance = _group_mean(jnp.maximum(second - jnp.square(first), 0) + jnp.square(means - mean), groups)
    mean, r = (checkpoint_name(v, STATISTICS) for v in (mean, lax.rsqrt(variance + eps)))
    return (x - channel_vector(mean, x)) * channel_vector(r, x), r


def _space(x: Array) -> tuple[int, ...]:
    """The axes between an example and its channels."""
    return tuple(range(1, x.ndim - 1))


def _group_mean(v: Array, groups: int) -> Array:
    """Each channel's group's mean in its place: v [B, C] -> [B, C]."""
    b, c = v.shape
    mean = v.reshape(b, groups, c // groups).mean(2, keepdims=True)
    return jnp.broadcast_to(mean, (b, groups, c // groups)).reshape(b, c)
