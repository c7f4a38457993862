"""EDM2's U-Net, whose layers keep magnitudes (Karras et al. 2024, arXiv 2312.02696, section 2 and appendix B)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import initializers

from score_sde.networks.adm import Pass, apart
from score_sde.networks.attention import attend_heads
from score_sde.networks.blocks import resample
from score_sde.networks.conditioning import told_label
from score_sde.networks.contract import centre, check_choices, check_halvings, finish
from score_sde.networks.conv import CONVOLUTIONS, convolve
from score_sde.networks.layers import Dropout, Dtype
from score_sde.networks.remat import REMAT, product, remat
from score_sde.typing import Array, Keys

EPS = 1e-4
BALANCE = 0.3
"""The share of what is added in a residual sum."""
LARGEST = 256.0
"""Where a block's output is cut off, for half precision."""
CHOICES = {"convolution": CONVOLUTIONS, "remat": REMAT}


def unit(x: Array, axes: tuple[int, ...]) -> Array:
    """x / (1e-4 + |x| / sqrt(n)), |x| over the n numbers along these axes, whose mean square becomes 1: any shape."""
    count = np.prod([x.shape[axis] for axis in axes])
    wide = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    square = jnp.sum(jnp.square(wide), axes, keepdims=True)
    # The root's derivative at 0 is not finite; there the quotient is 0 whatever the root.
    size = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return (wide / (EPS + size / float(count**0.5))).astype(x.dtype)


def normalised(params: Any) -> Any:
    """The tree with every kernel as the release stores it before each training step: of mean square 1 per output.

    The network computes the same of both but for the 1e-4 in `unit`.
    """
    tell = lambda path, leaf: unit(leaf, tuple(range(leaf.ndim - 1))) if path[-1].key == "kernel" else leaf
    return jax.tree_util.tree_map_with_path(tell, params)


def mp_silu(x: Array) -> Array:
    """x sigmoid(x) / 0.596, which has mean square 1 for x ~ N(0, 1): any shape."""
    return jax.nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, share: float) -> Array:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), t = share: a and b of one shape."""
    return ((1 - share) * a + share * b) / ((1 - share) ** 2 + share**2) ** 0.5


def mp_cat(a: Array, b: Array) -> Array:
    """a and b one behind the other, each contributing half: [B, H, W, N_a], [B, H, W, N_b] -> [B, H, W, N_a + N_b].

    Weights sqrt((N_a + N_b) / (2 N_a)) and sqrt((N_a + N_b) / (2 N_b)).
    """
    total = a.shape[-1] + b.shape[-1]
    return jnp.concatenate([v * (total / (2 * v.shape[-1])) ** 0.5 for v in (a, b)], axis=-1)


class MPConv(nn.Module):
    """Linear map or convolution without bias by g w' / sqrt(n), w' = `unit` of the kernel over its n inputs.

    x [B, C] (size 0) or [B, H, W, C] -> [..., features]; the gain g is a number.
    """

    features: int
    size: int = 3  # 0 for vectors
    dtype: Dtype = jnp.float32
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, gain: Array | float = 1.0) -> Array:
        shape = (*(self.size,) * 2 * bool(self.size), x.shape[-1], self.features)
        kernel = self.param("kernel", initializers.normal(1.0), shape, jnp.float32)
        scaled = unit(kernel, tuple(range(kernel.ndim - 1))) * (gain / float(np.prod(shape[:-1])) ** 0.5)
        x, scaled = x.astype(self.dtype), scaled.astype(self.dtype)
        return product(convolve(x, scaled, form=self.convolution) if self.size else x @ scaled)


class MPFourier(nn.Module):
    """sqrt(2) cos(v f + p) with constant f ~ N(0, (2 pi)^2), p ~ U(0, 2 pi): v [B] -> [B, features] float32."""

    features: int

    @nn.compact
    def __call__(self, v: Array) -> Array:
        turn = 2 * np.pi
        frequencies = self.param("freqs", initializers.normal(turn), (self.features,), jnp.float32)
        phases = self.param("phases", initializers.uniform(turn), (self.features,), jnp.float32)
        angle = v.astype(jnp.float32)[:, None] * lax.stop_gradient(frequencies)[None] + lax.stop_gradient(phases)[None]
        return jnp.cos(angle) * 2**0.5


class MPBlock(nn.Module):
    """Residual block, and attention behind it for heads > 0.

    x [B, H, W, C], embedding [B, E], keys [B] -> [B, H', W', features]. encoder: the branch that is kept goes through
    the 1x1 convolution first and has mean square 1 at every pixel.
    """

    features: int
    encoder: bool
    heads: int = 0
    resample: str = "none"  # none | up | down
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    fused: str | None = None
    convolution: str = "native"

    @nn.compact
    def __call__(self, x: Array, emb: Array, keys: Keys | None = None) -> Array:
        if self.resample != "none":
            x = resample(x, self.resample, None, self.convolution)
        if self.encoder:
            x = unit(self._skip(x), (3,))
        gain = self.param("emb_gain", initializers.zeros, (), jnp.float32)
        scale = 1 + self._map("emb_linear", self.features, 0)(emb, gain)
        y = self._map("conv_res0", self.features, 3)(mp_silu(x)) * scale[:, None, None]
        y = Dropout(self.dropout, name="dropout")(mp_silu(y), keys)
        y = self._map("conv_res1", self.features, 3)(y)
        x = mp_sum(x if self.encoder else self._skip(x), y, BALANCE)
        if self.heads:
            x = mp_sum(x, self._attention(x), BALANCE)
        return jnp.clip(x, -LARGEST, LARGEST)

    def _skip(self, x: Array) -> Array:
        return x if x.shape[-1] == self.features else self._map("conv_skip", self.features, 1)(x)

    def _attention(self, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = self._map("attn_qkv", 3 * c, 1)(x).reshape(b, h * w, 3 * c)
        q, k, v = (unit(part, (3,)) for part in apart(qkv, self.heads, "edm"))
        return self._map("attn_proj", c, 1)(attend_heads(q, k, v, self.fused).reshape(x.shape))

    def _map(self, name: str, features: int, size: int) -> MPConv:
        return MPConv(features, size, self.dtype, self.convolution, name=name)


class EDM2(nn.Module):
    """Noise-conditional U-Net: x [B, H, W, C], label [B] -> [B, H, W, out_channels] float32.

    label: ln(sigma) / 4; sigma is not read. dropout_keys [B]: one typed key per example; None turns dropout off.
    condition: "label" int [B] in 0 .. label_rows - 1; any other is the null label, the zero vector. Blocks of a level
    in attn_resolutions attend, on both ways, by one head for head_channels channels, none below that.
    The release normalises the stored weights before every training step, and again in the forward pass. Here only the
    forward pass does, in training too: the same function (see `normalised`), whose gradients get smaller as weights
    grow. logvar_channels: of the head for the loss's logarithm of variance, kept for the release's files and not
    trained here; logvar=True returns (output, that [B]). Names: as ADM's. ValueError: an unknown option, a size that
    cannot be halved often enough, labels left out. Source: Karras et al. 2024, configuration G.
    """

    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (16, 8)
    dropout: float = 0.0
    head_channels: int = 64
    logvar_channels: int = 128
    centered: bool = True
    out_channels: int | None = None
    label_rows: int = 0
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    fused_attention: str | None = None
    remat: str = "none"

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
        *,
        logvar: bool = False,
    ) -> Any:
        del sigma
        check_halvings(x, len(self.ch_mult) - 1, "once per further entry of ch_mult: pad the images or shorten ch_mult")
        state = Pass(self._embed(label, condition or {}), dropout_keys)
        h, skips = centre(x, self.centered, self.dtype), []
        h = jnp.concatenate([h, jnp.ones_like(h[..., :1])], axis=-1)
        skips.append(self._conv("input_0", self.nf * self.ch_mult[0])(h))
        for level, mult in enumerate(self.ch_mult):
            for _ in range(self.num_res_blocks):
                attends = self._attends(skips[-1])
                skips.append(self._block(state, f"input_{len(skips)}", skips[-1], mult * self.nf, True, attends))
            if level < len(self.ch_mult) - 1:
                skips.append(self._block(state, f"input_{len(skips)}", skips[-1], mult * self.nf, True, False, "down"))
        y = self._decode(state, skips, x.shape[-1] if self.out_channels is None else self.out_channels)
        if not (self.logvar_channels and (logvar or self.is_initializing())):
            return y
        features = MPFourier(self.logvar_channels, name="logvar_fourier")(label)
        uncertainty = MPConv(1, 0, name="logvar_linear")(features)[:, 0]
        return (y, uncertainty) if logvar else y

    def _embed(self, label: Array, condition: Mapping[str, Array]) -> Array:
        """Noise label [B], condition -> [B, E] float32, E the largest width."""
        width = self.nf * max(self.ch_mult)
        emb = MPConv(width, 0, name="emb_noise")(MPFourier(self.nf * self.ch_mult[0], name="emb_fourier")(label))
        if self.label_rows:
            one_hot = jax.nn.one_hot(told_label(self.label_rows, condition), self.label_rows, dtype=emb.dtype)
            emb = mp_sum(emb, MPConv(width, 0, name="emb_label")(one_hot * self.label_rows**0.5), 0.5)
        return mp_silu(emb)

    def _decode(self, state: Pass, skips: list[Array], channels: int) -> Array:
        h, number = skips[-1], 0
        h = self._block(state, "middle_0", h, h.shape[-1], False, True)
        h = self._block(state, "middle_1", h, h.shape[-1], False, False)
        for level, mult in reversed(list(enumerate(self.ch_mult))):
            for _ in range(self.num_res_blocks + 1):
                attends, joined = self._attends(h), mp_cat(h, skips.pop())
                h = self._block(state, f"output_{number}", joined, mult * self.nf, False, attends)
                number += 1
            if level > 0:
                h = self._block(state, f"output_{number - 1}_up", h, h.shape[-1], False, False, "up")
        gain = self.param("out_gain", initializers.zeros, (), jnp.float32)
        return finish(self._conv("out_conv", channels)(h, gain), None, False)

    def _block(
        self, state: Pass, name: str, h: Array, features: int, encoder: bool, attends: bool, resample: str = "none"
    ) -> Array:
        heads = features // self.head_channels if attends else 0
        own = (features, encoder, heads, resample, self.dropout, self.dtype, self.fused_attention, self.convolution)
        return remat(MPBlock, self.remat)(*own, name=name)(h, state.emb, state.keys())

    def _conv(self, name: str, features: int) -> MPConv:
        return MPConv(features, 3, self.dtype, self.convolution, name=name)

    def _attends(self, h: Array) -> bool:
        return min(h.shape[1:3]) in self.attn_resolutions
