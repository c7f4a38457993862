"""NCSNv2 and NCSN: RefineNets of Song & Ermon 2020 and 2019, one class whose published layouts are data."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from score_sde.networks.contract import centre, check_choices, check_halvings, check_sigma, finish
from score_sde.networks.layers import Dtype, Names, activation
from score_sde.networks.refinenet import INTERPOLATIONS, Options, RefineBlock, ResidualBlock
from score_sde.networks.remat import REMAT, remat
from score_sde.typing import Array, Keys


class Layout(NamedTuple):
    """The widths, in multiples of nf, of a RefineNet.

    stages: (width, dilation) of two residual blocks each, finest first. Every stage but the first begins by halving
    the resolution, or by dilating its convolutions instead if the dilation is not 1.
    refine: the width of each refine block, coarsest first; block k joins stage -1 - k to the block before it.
    """

    stages: tuple[tuple[int, int], ...]
    refine: tuple[int, ...]

    @property
    def halvings(self) -> int:
        return sum(dilation == 1 for _, dilation in self.stages[1:])


LAYOUTS = {
    64: Layout(((1, 1), (2, 1), (2, 2), (2, 4)), (2, 2, 2, 1)),
    128: Layout(((1, 1), (2, 1), (2, 1), (4, 2), (4, 4)), (4, 2, 2, 1, 1)),
    256: Layout(((1, 1), (2, 1), (2, 1), (2, 1), (4, 2), (4, 4)), (4, 2, 2, 2, 1, 1)),
}
"""By the image size each was made for: up to 64, 128 and 256."""


class NCSNv2(nn.Module):
    """RefineNet: x [B, H, W, C], label [B], sigma [B] -> [B, H, W, C] float32 (Song & Ermon 2020).

    NCSN (Song & Ermon 2019) is num_classes=number of noise levels, scale_by_sigma=False: the label, rounded and
    clipped to 0 .. num_classes - 1, chooses the parameters of every norm. Otherwise (None) the network never sees it.
    sigma: what the output is divided by if `scale_by_sigma`. There is no dropout: the keys are ignored. `centered`
    False: x lies in [0, 1] and is mapped to [-1, 1] first. `dtype` is that of the convolutions; parameters and
    statistics are float32. `convolution` is its form, one of conv.CONVOLUTIONS;
    `remat` is what the gradient keeps of every block (see remat.py). There is no attention to fuse either.
    ValueError: an unknown option, a size that cannot be halved often enough, a missing sigma.
    """

    layout: int = 64  # 64 | 128 | 256
    nf: int = 128
    nonlinearity: str = "elu"
    interpolation: str = "bilinear"  # bilinear | nearest_neighbor
    scale_by_sigma: bool = True
    num_classes: int | None = None
    centered: bool = False
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    fused_attention: str | None = None
    remat: str = "none"  # none | dots | blocks

    def __post_init__(self) -> None:
        check_choices(self, {"layout": LAYOUTS, "interpolation": INTERPOLATIONS, "remat": REMAT})
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes is {self.num_classes}: give the number of noise levels, or None")
        activation(self.nonlinearity)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, label: Array, sigma: Array | None = None, dropout_keys: Keys | None = None) -> Array:
        del dropout_keys
        layout, names, options = LAYOUTS[self.layout], Names(), self._options
        check_halvings(x, layout.halvings, f"as layout {self.layout} needs: pad the images or choose another layout")
        check_sigma(self.scale_by_sigma, sigma)
        classes = self._classes(label)
        h = options.conv(self.nf, names("Conv"))(centre(x, self.centered, self.dtype))
        h = self._refine(names, self._encode(names, h, classes), classes)
        h = options.act(options.norm(h, classes, names))
        return finish(options.conv(x.shape[-1], names("Conv"))(h), sigma, self.scale_by_sigma)

    def _encode(self, names: Names, h: Array, classes: Array | None) -> list[Array]:
        """Features h [B, H, W, nf] -> the output of every stage, finest first."""
        options, levels = self._options, []
        for stage, (width, dilation) in enumerate(LAYOUTS[self.layout].stages):
            for down in (stage > 0, False):
                name = names(options.kind("ResidualBlock"))
                block = remat(ResidualBlock, self.remat)
                h = block(width * self.nf, down, dilation, options, name=name)(h, classes)
            levels.append(h)
        return levels

    def _refine(self, names: Names, levels: list[Array], classes: Array | None) -> Array:
        """The output of every stage -> [B, H, W, nf]: from the coarsest up, each joined to what came before."""
        options, joined = self._options, []
        for width, level in zip(LAYOUTS[self.layout].refine, reversed(levels), strict=True):
            name, end = names(options.kind("RefineBlock")), level is levels[0]
            joined = [RefineBlock(width * self.nf, end, options, name=name)([level, *joined], classes)]
        return joined[0]

    def _classes(self, label: Array) -> Array | None:
        """Any label [B] -> the nearest integer that is a class; None if there are no classes."""
        if self.num_classes is None:
            return None
        return jnp.clip(jnp.round(label), 0, self.num_classes - 1).astype(jnp.int32)

    @property
    def _options(self) -> Options:
        fields = (self.nonlinearity, self.interpolation, self.num_classes, self.dtype, self.convolution, self.remat)
        return Options(*fields)
