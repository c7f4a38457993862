"""NCSN++, DDPM++ and DDPM: the U-Nets of Song et al. 2021, one class with options.

Reading order: `__call__` embeds the label, then `_encode` (where FIR down-sampling happens), `_middle`, `_decode`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.attention import AttnBlockpp
from score_sde.networks.blocks import Combine, Resample, ResnetBlockBigGANpp, ResnetBlockDDPMpp
from score_sde.networks.conditioning import LABEL_EMBEDDINGS, NULL_LABELS, Labels, told_augmentation
from score_sde.networks.contract import centre, check_choices, check_circular, check_halvings, check_sigma, finish
from score_sde.networks.conv import CONVOLUTIONS
from score_sde.networks.group_norm import GroupNorm
from score_sde.networks.layers import (
    Conv,
    Dense,
    Dtype,
    GaussianFourierProjection,
    activation,
    ddpm_init,
    positional_embedding,
)
from score_sde.networks.passing import Block, Pass
from score_sde.networks.remat import REMAT, remat
from score_sde.networks.repeated import in_one_loop, runs_of_equals
from score_sde.networks.text import Text
from score_sde.networks.transformer import SpatialTransformer
from score_sde.typing import Array, Keys

CHOICES = {
    "resblock_type": ("biggan", "ddpm"),
    "progressive": ("none", "output_skip", "residual"),
    "progressive_input": ("none", "input_skip", "residual"),
    "progressive_combine": ("sum", "cat"),
    "embedding_type": ("fourier", "positional"),
    "up_attention": ("level", "block"),
    "label_embedding": LABEL_EMBEDDINGS,
    "null_label": NULL_LABELS,
    "family": ("ncsnpp", "ddpm"),
    "convolution": CONVOLUTIONS,
    "remat": REMAT,
}


class NCSNpp(nn.Module):
    """Noise-conditional U-Net: x [B, *space, C], label [B] -> [B, *space, out_channels] float32; space of any rank.

    label: the noise level itself for the Fourier embedding (its logarithm is embedded), any number for the
    positional one. sigma [B]: what the output is divided by if `scale_by_sigma`. dropout_keys [B]: one typed key per
    example; None turns dropout off. `centered` False: x lies in [0, 1] and is mapped to [-1, 1] first.
    out_channels: None stands for C. groups: of every GroupNorm, None for min(channels // 4, 32). family: whose
    published parameter names are used. DDPM++ is fir=False, progressive_input="none", embedding_type="positional",
    scale_by_sigma=False; for DDPM see ddpm.py.
    condition: by name what the output is conditioned on (conditioning.py): "augment" [B, augment_dim], numbers that say
    how the images were augmented (Karras et al. 2022, appendix F.2), zeros where it is left out; "label" int32 [B], the
    classes' numbers or the null label, which may not be left out; "style" [B, S], of which the residual blocks' norms
    make scale and bias (generator.py); "tokens" or "embeddings", and "mask", which the pixels of the levels that `text`
    names ask by cross-attention (text.py). augment_dim, label_rows 0, text None: there is no such input.
    `dtype` is that of convolutions and matrix products; parameters, statistics, softmax and embeddings are float32.
    `convolution` is its form (see conv.py); `fused_attention` has cuDNN do it on such a GPU, without forward mode (see
    attention.py); `remat` is what the gradient keeps of every block (see remat.py); `scan_blocks` has blocks that are
    alike compiled once (see repeated.py). These change values by rounding alone. `circular`: the axes of space, 0 the
    first, that close to a circle, so that a shift along them by a multiple of the coarsest level's stride shifts y.
    ValueError: an unknown option, a size that cannot be halved often enough, a missing sigma.
    Source: Song et al. 2021, appendix H; Ho et al. 2020 for DDPM.
    """

    nf: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 4
    attn_resolutions: tuple[int, ...] = (16,)
    up_attention: str = "level"  # level | block: on the way up, once per level or after every residual block
    dropout: float = 0.1
    resamp_with_conv: bool = True
    conditional: bool = True
    fir: bool = True
    fir_kernel: tuple[float, ...] = (1, 3, 3, 1)
    skip_rescale: bool = True
    resblock_type: str = "biggan"
    progressive: str = "none"
    progressive_input: str = "none"
    progressive_combine: str = "sum"
    embedding_type: str = "fourier"
    init_scale: float = 0.0
    fourier_scale: float = 16.0
    scale_by_sigma: bool = True
    nonlinearity: str = "swish"
    centered: bool = True
    out_channels: int | None = None
    groups: int | None = None
    family: str = "ncsnpp"  # ncsnpp | ddpm
    augment_dim: int = 0
    label_rows: int = 0
    label_embedding: str = "edm"  # edm | adm
    null_label: str = "row"  # row | zero | learned
    text: Text | None = None
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    fused_attention: str | None = None
    remat: str = "none"  # none | dots | blocks
    scan_blocks: bool = False
    circular: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        if self.out_channels is not None and self.out_channels < 1:
            raise ValueError(f"out_channels is {self.out_channels}: it must be positive, or None for the input's")
        activation(self.nonlinearity)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Keys | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        remedy = "once per further entry of ch_mult: pad the images or shorten ch_mult"
        check_halvings(x, len(self.ch_mult) - 1, remedy)
        check_circular(x, self.circular)
        check_sigma(self.scale_by_sigma, sigma)
        state = Pass(temb=None, dropout_keys=dropout_keys, style=(condition or {}).get("style"))
        state.temb = self._embed(state, label, condition or {})
        state.text = self.text.encode(condition or {}, self.dtype) if self.text else None
        skips = self._encode(state, centre(x, self.centered, self.dtype))
        h = self._middle(state, skips[-1])
        channels = x.shape[-1] if self.out_channels is None else self.out_channels
        return finish(self._decode(state, h, skips, channels), sigma, self.scale_by_sigma)

    def _embed(self, state: Pass, label: Array, condition: Mapping[str, Array]) -> Array | None:
        """Noise label [B], condition -> temb [B, 4 nf] float32; unconditional None, but with the frequencies."""
        if self.embedding_type == "fourier":
            name = state.names("GaussianFourierProjection")
            fourier = GaussianFourierProjection(self.nf, self.fourier_scale, name=name)
            embedding = fourier(jnp.log(label.astype(jnp.float32)))
        else:
            embedding = positional_embedding(label, self.nf)
        if not self.conditional:
            return None
        labels = Labels(self.label_rows, self.label_embedding, self.null_label)
        embedding = told_augmentation(labels.before(embedding, condition), self.augment_dim, condition)
        hidden = Dense(4 * self.nf, name=state.names("Dense"))(embedding)
        hidden = Dense(4 * self.nf, name=state.names("Dense"))(activation(self.nonlinearity)(hidden))
        return labels.behind(hidden, condition)

    def _encode(self, state: Pass, x: Array) -> list[Array]:
        """Examples [B, *space, C] -> features of every level, finest first; the decoder consumes them from the end."""
        skips, pyramid = [self._conv(state, x, self.nf)], x
        for level, mult in enumerate(self.ch_mult):
            nothing = [None] * self.num_res_blocks
            skips += self._blocks(state, skips[-1], nothing, mult * self.nf, self._attends(skips[-1]))
            if level < len(self.ch_mult) - 1:
                h = self._resample(state, skips[-1], "down")
                pyramid, h = self._join_input(state, pyramid, h)
                skips.append(h)
        return skips

    def _middle(self, state: Pass, h: Array) -> Array:
        h = self._residual(state, h, h.shape[-1])
        h = self._attention(state, h)
        for block in self._asking_blocks(state, h):
            h = block.make(name=state.names(block.kind))(h, *block.given)
        return self._residual(state, h, h.shape[-1])

    def _decode(self, state: Pass, h: Array, skips: list[Array], channels: int) -> Array:
        """Coarsest features h and all skips -> [B, *space, channels]."""
        pyramid = None
        for level, mult in reversed(list(enumerate(self.ch_mult))):
            taken = [skips.pop() for _ in range(self.num_res_blocks + 1)]
            every = self._attends(h) and self.up_attention == "block"
            h = self._blocks(state, h, taken, mult * self.nf, every)[-1]
            h = self._attention(state, h) if self._attends(h) and self.up_attention == "level" else h
            pyramid, h = self._join_output(state, pyramid, h, channels)
            if level > 0:
                h = self._resample(state, h, "up")
        if self.progressive == "output_skip" and pyramid is not None:
            return pyramid
        return self._conv(state, self._normalise(state, h), channels, self.init_scale)

    def _join_input(self, state: Pass, pyramid: Array, h: Array) -> tuple[Array, Array]:
        """Halve the input's pyramid and join it to the features h, which have been halved already."""
        if self.progressive_input == "input_skip":
            pyramid = self._pyramid_resample(state, pyramid, "down", None)
            combine = Combine(self.progressive_combine, self.dtype, name=state.names("Combine"))
            return pyramid, combine(pyramid, h)
        if self.progressive_input == "residual":
            pyramid = self._rescaled_sum(self._pyramid_resample(state, pyramid, "down", h.shape[-1]), h)
            return pyramid, pyramid
        return pyramid, h

    def _join_output(self, state: Pass, pyramid: Array | None, h: Array, channels: int) -> tuple[Array | None, Array]:
        """Double the output's pyramid (None at the coarsest level, where it begins) and join it to the features h."""
        if self.progressive == "output_skip":
            if pyramid is None:
                return self._conv(state, self._normalise(state, h), channels, self.init_scale), h
            pyramid = self._pyramid_resample(state, pyramid, "up", None)
            return pyramid + self._conv(state, self._normalise(state, h), channels, self.init_scale), h
        if self.progressive == "residual":
            if pyramid is None:
                return self._conv(state, self._normalise(state, h), h.shape[-1]), h
            pyramid = self._rescaled_sum(self._pyramid_resample(state, pyramid, "up", h.shape[-1]), h)
            return pyramid, pyramid
        return None, h

    def _blocks(
        self, state: Pass, h: Array, skips: Sequence[Array | None], features: int, attended: bool
    ) -> list[Array]:
        """The outputs of residual blocks one after the other, each given a skip beside its input unless that is None.

        attended: each followed by attention; by cross-attention where the level has it. With scan_blocks, those that
        are alike in one loop.
        """
        widths = [h.shape[-1], *[features] * (len(skips) - 1)]
        kinds = [(width, None if skip is None else skip.shape[-1]) for width, skip in zip(widths, skips)]
        more = [*([self._attention_block()] if attended else []), *self._asking_blocks(state, h)]
        blocks = [self._residual_block(features), *more]

        def step(calls: Sequence[Callable[..., Array]], h: Array, x: tuple[Array | None, Any]) -> Array:
            skip, number = x
            h = calls[0](h if skip is None else jnp.concatenate([h, skip], axis=-1), *state.beside(number))
            for call, block in zip(calls[1:], more, strict=True):
                h = call(h, *block.given)
            return h

        outputs = [h]
        for run in runs_of_equals(kinds):
            names = [[state.names(block.kind) for block in blocks] for _ in run]
            xs = [(skips[i], state.next_block()) for i in run]
            if len(run) > 1 and self.scan_blocks and not self.is_initializing():
                params = [[self.variables["params"][name] for name in one] for one in names]
                outputs += in_one_loop(step, [block.make for block in blocks], params, outputs[-1], xs)
            else:
                for one, x in zip(names, xs):
                    calls = [block.make(name=name) for block, name in zip(blocks, one)]
                    outputs.append(step(calls, outputs[-1], x))
        return outputs[1:]

    def _residual(self, state: Pass, h: Array, features: int, resample: str = "none") -> Array:
        block = self._residual_block(features, resample)
        return block.make(name=state.names(block.kind))(h, *state.beside(state.next_block()))

    def _residual_block(self, features: int, resample: str = "none") -> Block:
        common = {
            "dropout": self.dropout,
            "skip_rescale": self.skip_rescale,
            "init_scale": self.init_scale,
            "groups": self.groups,
            "nonlinearity": self.nonlinearity,
            **self._how,
        }
        if self.resblock_type == "ddpm":
            return Block(
                "ResnetBlockDDPM" + self._suffix, partial(remat(ResnetBlockDDPMpp, self.remat), features, **common)
            )
        own = {"resample": resample, "fir_kernel": self._fir}
        block = partial(remat(ResnetBlockBigGANpp, self.remat), features, **own, **common)
        return Block("ResnetBlockBigGAN" + self._suffix, block)

    def _resample(self, state: Pass, h: Array, direction: str) -> Array:
        """Double or halve the features: inside a residual block (BigGAN) or by a module of its own (DDPM)."""
        if self.resblock_type == "biggan":
            return self._residual(state, h, h.shape[-1], direction)
        return self._resampler(state, direction, None, self.resamp_with_conv)(h)

    def _pyramid_resample(self, state: Pass, pyramid: Array, direction: str, features: int | None) -> Array:
        """Double or halve a pyramid of images, with a convolution to `features` channels unless that is None."""
        return self._resampler(state, direction, features, features is not None)(pyramid)

    def _resampler(self, state: Pass, direction: str, features: int | None, with_conv: bool) -> Resample:
        name = state.names("Upsample" if direction == "up" else "Downsample")
        return Resample(direction, features, with_conv, self._fir, **self._how, name=name)

    def _attends(self, h: Array) -> bool:
        return min(h.shape[1:-1]) in self.attn_resolutions

    def _attention(self, state: Pass, h: Array) -> Array:
        return (block := self._attention_block()).make(name=state.names(block.kind))(h)

    def _attention_block(self) -> Block:
        common = {"groups": self.groups, "dtype": self.dtype, "fused": self.fused_attention}
        common["convolution"] = self.convolution
        block = partial(remat(AttnBlockpp, self.remat), self.skip_rescale, self.init_scale, **common)
        return Block("AttnBlock" + self._suffix, block)

    def _asking_blocks(self, state: Pass, h: Array) -> list[Block]:
        """The block in which the places of h [B, *space, C] ask the text; none where the level has none."""
        if self.text is None or state.text is None or not self.text.asked_by(h):
            return []
        common = {"groups": self.groups, "dtype": self.dtype, "convolution": self.convolution}
        block = partial(remat(SpatialTransformer, self.remat), self.text.heads, **common)
        return [Block("SpatialTransformer", block, state.text)]

    def _normalise(self, state: Pass, h: Array) -> Array:
        act = activation(self.nonlinearity)
        return GroupNorm(self.groups, act, convolution=self.convolution, name=state.names("GroupNorm"))(h)

    def _conv(self, state: Pass, h: Array, features: int, init_scale: float = 1.0) -> Array:
        init = ddpm_init(init_scale)
        return Conv(features, kernel_init=init, **self._how, name=state.names("Conv"))(h)

    def _rescaled_sum(self, a: Array, b: Array) -> Array:
        return (a + b) / 2**0.5 if self.skip_rescale else a + b

    @property
    def _suffix(self) -> str:
        """What NCSN++ appends to the names of DDPM's blocks."""
        return "pp" if self.family == "ncsnpp" else ""

    @property
    def _how(self) -> dict[str, Any]:
        """What all convolutions are given."""
        return {"dtype": self.dtype, "convolution": self.convolution, "circular": self.circular}

    @property
    def _fir(self) -> tuple[float, ...] | None:
        return self.fir_kernel if self.fir else None
