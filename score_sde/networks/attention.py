"""Single-head self-attention over all pixels."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from score_sde.networks.layers import NIN, Dtype, GroupNorm
from score_sde.typing import Array


def attend(q: Array, k: Array, v: Array) -> Array:
    """o_p = sum_p' softmax_p'(q_p . k_p' / sqrt(C)) v_p': q, k, v [B, P, C] -> [B, P, C]; float32 softmax."""
    scale = q.shape[-1] ** -0.5
    logits = jnp.einsum("bpc,bqc->bpq", q * scale, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bpq,bqc->bpc", weights, v)


class AttnBlockpp(nn.Module):
    """x + NIN(attention(GroupNorm(x))), divided by sqrt(2) if `skip_rescale`: x [B, H, W, C] (Ho et al. 2020)."""

    skip_rescale: bool = False
    init_scale: float = 0.0
    groups: int | None = None  # of the GroupNorm
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        normalised = GroupNorm(self.groups, name="GroupNorm_0")(x).reshape(b, h * w, c)
        q, k, v = (NIN(c, dtype=self.dtype, name=f"NIN_{i}")(normalised) for i in range(3))
        o = NIN(c, init_scale=self.init_scale, dtype=self.dtype, name="NIN_3")(attend(q, k, v))
        y = x + o.reshape(x.shape)
        return y / 2**0.5 if self.skip_rescale else y
