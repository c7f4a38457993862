"""Self-attention over all places, of one head or several."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import NIN, Dtype
from score_sde.typing import Array


def attend(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """o_p = sum_p' softmax_p'(q_p . k_p' / sqrt(C)) v_p': q [B, P, C], k, v [B, Q, C] -> [B, P, C]; float32 softmax.

    mask: bool [B, Q], the p' that are there; the others' weight is exactly 0. One at least must be there.
    """
    scale = q.shape[-1] ** -0.5
    # Said explicitly, it also holds for the gradient, whose product would else be one of float32 and bfloat16.
    precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32 if q.dtype == jnp.bfloat16 else None
    wide = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("bpc,bqc->bpq", q * scale, k, precision=precision, preferred_element_type=wide)
    if mask is not None:
        logits = jnp.where(mask[:, None, :], logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bpq,bqc->bpc", weights, v)


def attend_fused(q: Array, k: Array, v: Array) -> Array:
    """`attend` by cuDNN, which keeps no [B, P, P] for the gradient and has no forward mode (see `can_fuse`)."""
    q, k, v = (x[:, :, None] for x in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")[:, :, 0]


def attend_heads(q: Array, k: Array, v: Array, capability: str | None = None) -> Array:
    """`attend` for every head on its own: q, k, v [B, P, heads, C] -> [B, P, heads, C]; by cuDNN where it can."""
    if can_fuse(q.dtype, q.shape[-1], capability):
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return jax.vmap(attend, 2, 2)(q, k, v)


def can_fuse(dtype: Dtype, channels: int, capability: str | None) -> bool:
    """Whether cuDNN has the attention and its gradient for a head of that many channels on such a GPU (None: no GPU).

    In half precision, for multiples of 8 up to 256 channels on Hopper, which is compute capability 9, and up to 128
    on other GPUs from 8.0 on. Source: cuDNN 9.18, support matrix of scaled dot product attention.
    """
    if capability is None or dtype not in (jnp.bfloat16, jnp.float16):
        return False
    major = int(capability.split(".")[0])
    return major >= 8 and channels % 8 == 0 and channels <= (256 if major == 9 else 128)


class AttnBlockpp(nn.Module):
    """x + NIN(attention(GroupNorm(x))), divided by sqrt(2) if `skip_rescale`: x [B, *space, C] (Ho et al. 2020).

    `fused`: by cuDNN where it can on a GPU of this compute capability, without forward mode; `convolution`: as the
    network's.
    """

    skip_rescale: bool = False
    init_scale: float = 0.0
    groups: int | None = None  # of the GroupNorm
    dtype: Dtype = jnp.float32
    fused: str | None = None
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, *_, c = x.shape
        normalised = GroupNorm(self.groups, convolution=self.convolution, name="GroupNorm_0")(x).reshape(b, -1, c)
        q, k, v = (NIN(c, dtype=self.dtype, name=f"NIN_{i}")(normalised) for i in range(3))
        attention = attend_fused if can_fuse(q.dtype, c, self.fused) else attend
        o = NIN(c, init_scale=self.init_scale, dtype=self.dtype, name="NIN_3")(attention(q, k, v))
        y = x + o.reshape(x.shape)
        return y / 2**0.5 if self.skip_rescale else y
