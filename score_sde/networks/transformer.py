"""Transformers: attention of several heads, blocks that see everything at once, pixels that ask rows of a text, tokens.

Source: Vaswani et al. 2017; Xiong et al. 2020 (LayerNorm before every branch); Shazeer 2020 (GEGLU); Rombach et al.
2022, appendix E (the blocks between the pixels of a U-Net).
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.networks.attention import attend
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import Dense, Dropout, Dtype, at_least_float32, ddpm_init, fold_in, positional_embedding
from score_sde.networks.remat import remat
from score_sde.typing import Array, Keys


class Attention(nn.Module):
    """softmax(q k^T / sqrt(C / heads)) v of every head, then a linear layer: x [B, P, D] -> [B, P, D].

    q of x, k and v of context [B, Q, E] or, without one, of x; q, k and v have `width` channels in all, D for None, and
    no bias. mask: bool [B, Q], the rows that are there, one at least: the others change nothing. ValueError for heads
    that do not divide the channels.
    """

    heads: int = 1
    width: int | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
        features, width = x.shape[-1], self.width or x.shape[-1]
        if width % self.heads:
            raise ValueError(f"{width} channels of attention do not divide among {self.heads} heads: choose a divisor")
        seen = x if context is None else context
        split = lambda y: y.reshape(*y.shape[:2], self.heads, width // self.heads)
        dense = partial(Dense, width, use_bias=False, dtype=self.dtype)
        q, k, v = (split(dense(name=name)(y)) for name, y in (("query", x), ("key", seen), ("value", seen)))
        o = jax.vmap(lambda q, k, v: attend(q, k, v, mask), 2, 2)(q, k, v)
        return Dense(features, dtype=self.dtype, name="out")(o.reshape(*x.shape[:2], width))


class FeedForward(nn.Module):
    """W_2 (a gelu(b)) with a, b = W_1 x, of 4 times the channels each (GEGLU): x [B, P, D] -> [B, P, D]."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        a, b = jnp.split(Dense(8 * x.shape[-1], dtype=self.dtype, name="in")(x), 2, axis=-1)
        return Dense(x.shape[-1], dtype=self.dtype, name="out")(a * jax.nn.gelu(b, approximate=False))


class TransformerBlock(nn.Module):
    """x + self-attention, + cross-attention where there is a context, + GEGLU, each of a LayerNorm: x [B, P, D].

    Every row sees every other, before and behind it. mask: bool [B, P], the rows of x that are there; context
    [B, Q, E], of which context_mask, bool [B, Q], says the same. One row at least must be there. dropout: of what
    every branch adds, by dropout_keys [B]; None for none.
    """

    heads: int = 1
    dtype: Dtype = jnp.float32
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        context: Array | None = None,
        context_mask: Array | None = None,
        dropout_keys: Keys | None = None,
    ) -> Array:
        norm = partial(nn.LayerNorm, epsilon=1e-5, dtype=self.dtype)
        attention = partial(Attention, self.heads, dtype=self.dtype)
        own = lambda branch: None if dropout_keys is None else fold_in(dropout_keys, branch)
        drop = lambda y, branch: Dropout(self.dropout)(y, own(branch)) if self.dropout else y
        x = x + drop(attention(name="self")(norm(name="norm_self")(x), mask=mask), 0)
        if context is not None:
            x = x + drop(attention(name="cross")(norm(name="norm_cross")(x), context, context_mask), 1)
        return x + drop(FeedForward(self.dtype, name="feed_forward")(norm(name="norm_feed_forward")(x)), 2)


class SpatialTransformer(nn.Module):
    """x + W_out(block(W_in(GroupNorm(x)))), the places as rows that ask the context: x [B, *space, C].

    W_out is 0 at first, so that the output is x. context [B, Q, E], mask bool [B, Q]. groups: of the GroupNorm, None
    for min(C // 4, 32). width: the block's channels, None for C.
    """

    heads: int = 1
    width: int | None = None
    groups: int | None = None
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, context: Array, mask: Array | None = None) -> Array:
        b, *_, c = x.shape
        rows = GroupNorm(self.groups, convolution=self.convolution, name="norm")(x).reshape(b, -1, c)
        rows = Dense(self.width or c, dtype=self.dtype, name="in")(rows)
        rows = TransformerBlock(self.heads, self.dtype, name="block")(rows, context=context, context_mask=mask)
        out = Dense(c, kernel_init=initializers.zeros, dtype=self.dtype, name="out")(rows)
        return x + out.reshape(x.shape)


class TextEncoder(nn.Module):
    """Tokens int32 [B, L] or embeddings [B, L, E] -> rows [B, 1 + L, width] and which are there, bool [B, 1 + L].

    mask: bool [B, L], the tokens that are there; None for all: the others change nothing. The first row is the null
    token's, which is always there: a text of which nothing is there is that one alone. vocabulary: how many tokens a
    table embeds, with learned positions unless `positions` is False; 0: embeddings of somebody else's encoder, by a
    linear layer. layers: of blocks behind them, which are trained with all the rest. ValueError for a text of another
    rank than the vocabulary says.
    """

    vocabulary: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    positions: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, text: Array, mask: Array | None = None) -> tuple[Array, Array]:
        if text.ndim != (2 if self.vocabulary else 3):
            raise ValueError(f"the text has shape {text.shape}: give tokens [B, L], or with vocabulary=0 embeddings")
        b, length = text.shape[:2]
        there = jnp.ones((b, length), bool) if mask is None else mask.astype(bool)
        normal = initializers.normal(1 / math.sqrt(self.width))
        null = self.param("null", normal, (self.width,), jnp.float32)
        if self.vocabulary:
            rows = nn.Embed(self.vocabulary, self.width, embedding_init=normal, name="tokens")(text)
            if self.positions:
                rows = rows + self.param("positions", normal, (length, self.width), jnp.float32)[None]
        else:
            rows = Dense(self.width, name="embeddings")(text)
        rows = jnp.where(there[..., None], rows, 0.0).astype(self.dtype)
        rows = jnp.concatenate([jnp.broadcast_to(null.astype(self.dtype), (b, 1, self.width)), rows], axis=1)
        there = jnp.concatenate([jnp.ones((b, 1), bool), there], axis=1)
        for layer in range(self.layers):
            rows = TransformerBlock(self.heads, self.dtype, name=f"block_{layer}")(rows, there)
        return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(rows), there


class Transformer(nn.Module):
    """Tokens int32 [B, L], the last of which is the mask, and a noise label [B] -> logits [B, L, vocabulary] float32.

    Rows of nf channels, of a table of vocabulary + 1 tokens and of learned positions, to which the label's embedding is
    added where the network is `conditional`; num_res_blocks blocks in which every row sees all. Logits are 0 at first.
    dropout: as of TransformerBlock. remat: as of `networks.remat`. Source: Peebles & Xie 2023 without its modulation.
    """

    vocabulary: int
    nf: int = 64
    num_res_blocks: int = 2
    heads: int = 1
    dropout: float = 0.0
    conditional: bool = True
    remat: str = "none"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, noise_label: Array, sigma: Array | None = None, dropout_keys: Keys | None = None
    ) -> Array:
        normal = initializers.normal(1 / math.sqrt(self.nf))
        rows = nn.Embed(self.vocabulary + 1, self.nf, embedding_init=normal, name="tokens")(x)
        rows = rows + self.param("positions", normal, (x.shape[1], self.nf), jnp.float32)[None]
        if self.conditional:
            label = Dense(4 * self.nf, name="label_0")(positional_embedding(noise_label, self.nf))
            rows = rows + Dense(self.nf, name="label_1")(jax.nn.swish(label))[:, None]
        rows, block = rows.astype(self.dtype), remat(TransformerBlock, self.remat)
        for i in range(self.num_res_blocks):
            keys = None if dropout_keys is None else fold_in(dropout_keys, i)
            rows = block(self.heads, self.dtype, self.dropout, name=f"block_{i}")(rows, dropout_keys=keys)
        rows = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(rows)
        logits = Dense(self.vocabulary, ddpm_init(0.0), self.dtype, name="out")(rows)
        return logits.astype(at_least_float32(self.dtype))
