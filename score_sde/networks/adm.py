"""ADM: the U-Net of Dhariwal & Nichol 2021, with options of which EDM's DhariwalUNet (Karras et al. 2022) is a choice.

Reading order: `Trunk` has the embedding and the way down, as ADM's classifier has (adm_encoder.py); `ADM` has the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

from score_sde.networks.attention import attend_heads
from score_sde.networks.blocks import resample
from score_sde.networks.conditioning import told_augmentation, told_label
from score_sde.networks.contract import centre, check_choices, check_halvings, finish
from score_sde.networks.conv import CONVOLUTIONS, convolve
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import (
    NIN,
    Conv,
    Dense,
    Dropout,
    Dtype,
    add_channels,
    ddpm_init,
    fold_in,
    ncsn_init,
    zero_bias,
)
from score_sde.networks.remat import REMAT, product, remat
from score_sde.typing import Array, Keys

EPS = 1e-5
"""Of all its GroupNorms."""
ORDERS = ("legacy", "new", "edm")
"""How queries, keys and values lie among 3 C channels, the slowest first: legacy (head, q | k | v, channel), new
(q | k | v, head, channel), edm (head, channel, q | k | v)."""
CHOICES = {"attention_order": ORDERS, "convolution": CONVOLUTIONS, "remat": REMAT}


def apart(qkv: Array, heads: int, order: str) -> tuple[Array, Array, Array]:
    """Queries, keys and values [B, P, heads, C / heads] of qkv [B, P, 3 C] in one of ORDERS."""
    shape, axis = {
        "legacy": ((heads, 3, -1), 3),
        "new": ((3, heads, -1), 2),
        "edm": ((heads, -1, 3), 4),
    }[order]
    q, k, v = jnp.moveaxis(qkv.reshape(*qkv.shape[:2], *shape), axis, 0)
    return q, k, v


def cosines_first(label: Array, features: int) -> Array:
    """[cos(v f_k), sin(v f_k)], f_k = 10000^(-k / half): v [B] -> [B, features] float32, features even.

    Source: Dhariwal & Nichol 2021, whose frequencies end one step short of Ho et al.'s.
    """
    half = features // 2
    frequencies = jnp.asarray(10000.0 ** (-np.arange(half) / half), jnp.float32)
    phase = label.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=-1)


class LabelTable(nn.Module):
    """The row of a table ~ N(0, 1), zeros for a label outside: int [B] -> [B, features] float32.

    As a product with one-hot vectors, so that the label `rows` is EDM's zero vector.
    """

    rows: int
    features: int

    @nn.compact
    def __call__(self, label: Array) -> Array:
        table = self.param("embedding", initializers.normal(1.0), (self.rows, self.features), jnp.float32)
        return jax.nn.one_hot(label, self.rows, dtype=table.dtype) @ table


class Block(nn.Module):
    """Residual block: x [B, H, W, C], embedding [B, E] behind its activation, keys [B] -> [B, H', W', features].

    `resample` doubles ("up") or halves ("down") both branches without parameters. The embedding scales and shifts what
    the second norm gives, u (1 + a) + b, or is added before it. Source: Dhariwal & Nichol 2021, appendix A.
    """

    features: int
    resample: str = "none"  # none | up | down
    dropout: float = 0.0
    groups: int | None = 32
    scale_shift: bool = True
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, emb: Array, keys: Keys | None = None) -> Array:
        common: dict[str, Any] = {"dtype": self.dtype, "convolution": self.convolution}
        h = self._norm("norm0", jax.nn.swish)(x)
        if self.resample != "none":
            h, x = (resample(v, self.resample, None, self.convolution) for v in (h, x))
        width = 2 * self.features if self.scale_shift else self.features
        told = Dense(width, kernel_init=ncsn_init(), dtype=self.dtype, name="affine")(emb)
        h = Conv(self.features, kernel_init=ncsn_init(), **common, name="conv0")(h, None if self.scale_shift else told)
        if self.scale_shift:
            scale, shift = (v[:, None, None] for v in jnp.split(told, 2, axis=-1))
            h = jax.nn.swish(self._norm("norm1")(h) * (1 + scale) + shift)
        else:
            h = self._norm("norm1", jax.nn.swish)(h)
        h = Dropout(self.dropout, name="dropout")(h, keys)
        h = Conv(self.features, kernel_init=ddpm_init(0.0), **common, name="conv1")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, kernel_init=ncsn_init(), **common, name="skip")(x)
        return x + h

    def _norm(self, name: str, activation: Any = None) -> GroupNorm:
        return GroupNorm(self.groups, activation, EPS, self.convolution, name=name)


class Attention(nn.Module):
    """x + proj(attention of several heads over all pixels, of GroupNorm(x)): x [B, H, W, C].

    Source: Dhariwal & Nichol 2021. order: one of ORDERS; fused: as in attention.py.
    """

    heads: int
    order: str = "new"
    groups: int | None = 32
    dtype: Dtype = jnp.float32
    fused: str | None = None
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        normalised = GroupNorm(self.groups, None, EPS, self.convolution, name="norm")(x).reshape(b, h * w, c)
        qkv = NIN(3 * c, init_scale=1.0, dtype=self.dtype, name="qkv")(normalised)
        o = attend_heads(*apart(qkv, self.heads, self.order), self.fused).reshape(b, h * w, c)
        return x + NIN(c, init_scale=0.0, dtype=self.dtype, name="proj")(o).reshape(x.shape)


class Resampler(nn.Module):
    """Double or halve H and W of x [B, H, W, C]: a 3x3 convolution behind repeating, or of stride 2, or naively.

    The stride's convolution has a pixel of zeros on every side.
    """

    direction: str  # up | down
    with_conv: bool = True
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.with_conv:
            return resample(x, self.direction, None, self.convolution)
        shape, down = (3, 3, x.shape[-1], x.shape[-1]), self.direction == "down"
        kernel = self.param("kernel", ncsn_init(), shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", zero_bias, shape)
        x = (x if down else resample(x, "up", None, self.convolution)).astype(self.dtype)
        y = convolve(x, kernel, stride=2 if down else 1, padding=((1, 1), (1, 1)), form=self.convolution)
        return product(add_channels(y, bias))


@dataclass
class Pass:
    """What one forward pass carries along: the embedding behind its activation [B, 4 nf] and the dropout keys [B]."""

    emb: Array
    dropout_keys: Keys | None
    blocks: int = 0

    def keys(self) -> Keys | None:
        """The dropout keys [B] of the next block."""
        self.blocks += 1
        return None if self.dropout_keys is None else fold_in(self.dropout_keys, self.blocks)


class Trunk(nn.Module):
    """What ADM's U-Net and classifier share: their fields, the embedding, the way down and the middle.

    Names: input_0, input_1, ... in the order of calls, input_1_attention behind input_1; middle_0, middle_1.
    """

    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (32, 16, 8)
    dropout: float = 0.0
    head_channels: int = 64
    num_heads: int = 0
    attention_order: str = "new"
    scale_shift: bool = True
    resblock_updown: bool = True
    resamp_with_conv: bool = True
    groups: int | None = 32
    centered: bool = True
    out_channels: int | None = None
    augment_dim: int = 0
    label_rows: int = 0
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    fused_attention: str | None = None
    remat: str = "none"

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        super().__post_init__()

    def heads(self, channels: int) -> int:
        """The heads of an attention of so many channels; 0 for no attention, as EDM's has below 64 channels."""
        return self.num_heads or channels // self.head_channels

    def embed(self, label: Array, condition: Mapping[str, Array]) -> Array:
        """Noise label [B], condition -> [B, 4 nf] float32, behind the activation that all blocks begin with."""
        embedding = told_augmentation(cosines_first(label, self.nf), self.augment_dim, condition)
        hidden = Dense(4 * self.nf, kernel_init=ncsn_init(), name="map_layer0")(embedding)
        hidden = Dense(4 * self.nf, kernel_init=ncsn_init(), name="map_layer1")(jax.nn.swish(hidden))
        if self.label_rows:
            label = told_label(self.label_rows, condition)
            hidden = hidden + LabelTable(self.label_rows, 4 * self.nf, name="map_label")(label)
        return jax.nn.swish(hidden)

    def encode(self, state: Pass, x: Array) -> list[Array]:
        """Images [B, H, W, C] -> features of every level, finest first."""
        check_halvings(x, len(self.ch_mult) - 1, "once per further entry of ch_mult: pad the images or shorten ch_mult")
        x = centre(x, self.centered, self.dtype)
        skips = [self.conv("input_0", x, self.nf * self.ch_mult[0], ncsn_init())]
        for level, mult in enumerate(self.ch_mult):
            for _ in range(self.num_res_blocks):
                skips.append(self.attended_block(state, f"input_{len(skips)}", skips[-1], mult * self.nf))
            if level < len(self.ch_mult) - 1:
                skips.append(self.resampled(state, f"input_{len(skips)}", skips[-1], "down"))
        return skips

    def middle(self, state: Pass, h: Array) -> Array:
        """Two blocks with an attention between, [B, H, W, C]."""
        h = self.attention("middle_0", self.block(state, "middle_0", h, h.shape[-1]))
        return self.block(state, "middle_1", h, h.shape[-1])

    def attended_block(self, state: Pass, name: str, h: Array, features: int) -> Array:
        """A block, and an attention behind it at the levels that have one."""
        h = self.block(state, name, h, features)
        return self.attention(name, h) if min(h.shape[1:3]) in self.attn_resolutions else h

    def block(self, state: Pass, name: str, h: Array, features: int, resample: str = "none") -> Array:
        """One residual block."""
        kind = remat(Block, self.remat)
        own = (features, resample, self.dropout, self.groups, self.scale_shift, self.dtype, self.convolution)
        return kind(*own, name=name)(h, state.emb, state.keys())

    def attention(self, name: str, h: Array) -> Array:
        """The attention of the block of that name."""
        heads = self.heads(h.shape[-1])
        if not heads:
            return h
        if h.shape[-1] % heads:
            raise ValueError(
                f"{h.shape[-1]} channels do not divide among {heads} heads: use another width or num_heads"
            )
        own = (heads, self.attention_order, self.groups, self.dtype, self.fused_attention, self.convolution)
        return remat(Attention, self.remat)(*own, name=f"{name}_attention")(h)

    def resampled(self, state: Pass, name: str, h: Array, direction: str) -> Array:
        """Double or halve the features: in a residual block, or by a module of its own."""
        if self.resblock_updown:
            return self.block(state, name, h, h.shape[-1], direction)
        return Resampler(direction, self.resamp_with_conv, self.dtype, self.convolution, name=name)(h)

    def conv(self, name: str, h: Array, features: int, init: Any) -> Array:
        """A 3x3 convolution."""
        return Conv(features, kernel_init=init, dtype=self.dtype, convolution=self.convolution, name=name)(h)


class ADM(Trunk):
    """Noise-conditional U-Net: x [B, H, W, C], label [B] -> [B, H, W, out_channels] float32.

    label: any number, for a positional embedding with the cosines first; sigma is not read. dropout_keys [B]: one typed
    key per example; None turns dropout off. condition: "label" int [B], a row of `label_rows`, and "augment"
    [B, augment_dim], as NCSNpp takes them. heads: num_heads, or one for head_channels channels where that is 0; all
    blocks of a level in attn_resolutions attend, on both ways, and so does the middle. groups: of every GroupNorm, None
    for min(C // 4, 32). resblock_updown: levels are changed within residual blocks. Further fields: as NCSNpp's.
    Names: as Trunk's; output_0, ..., output_2_up behind output_2. ValueError: an unknown option, a width or size that
    does not divide. Source: Dhariwal & Nichol 2021 (arXiv 2105.05233), section 3 and appendix A.
    """

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        del sigma
        state = Pass(self.embed(label, condition or {}), dropout_keys)
        skips = self.encode(state, x)
        h = self.middle(state, skips[-1])
        number = 0
        for level, mult in reversed(list(enumerate(self.ch_mult))):
            for _ in range(self.num_res_blocks + 1):
                joined = jnp.concatenate([h, skips.pop()], axis=-1)
                h, number = self.attended_block(state, f"output_{number}", joined, mult * self.nf), number + 1
            if level > 0:
                h = self.resampled(state, f"output_{number - 1}_up", h, "up")
        h = GroupNorm(self.groups, jax.nn.swish, EPS, self.convolution, name="out_norm")(h)
        channels = x.shape[-1] if self.out_channels is None else self.out_channels
        return finish(self.conv("out_conv", h, channels, ddpm_init(0.0)), None, False)


def dhariwal(**fields: Any) -> ADM:
    """DhariwalUNet, ADM as EDM trains it (Karras et al. 2022, appendix F); the fields are ADM's but for those fixed.

    GroupNorms of min(C // 4, 32) groups, heads of 64 channels and none below; a label outside its rows is the null
    label, the zero vector.
    """
    fixed: dict[str, Any] = {"groups": None, "head_channels": 64, "num_heads": 0, "attention_order": "edm"}
    return ADM(**fixed, scale_shift=True, resblock_updown=True, **fields)
