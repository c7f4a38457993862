"""Blocks of the NCSN family: a RefineNet with InstanceNorm++ (Song & Ermon 2019, 2020).

Every block exists in two published forms: with `num_classes` its norms are conditional on a label, there are more of
them, the pooling is a mean, and the parameters' names are those of NAMES.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from score_sde.networks.instance_norm import ConditionalInstanceNorm2dPlus, InstanceNorm2dPlus
from score_sde.networks.layers import Conv, Dtype, Names, activation, ncsn_bias, ncsn_init
from score_sde.networks.pooling import max_pool, mean_pool
from score_sde.networks.remat import remat
from score_sde.networks.resampling import naive_downsample
from score_sde.typing import Array

INTERPOLATIONS = {"bilinear": "bilinear", "nearest_neighbor": "nearest"}
"""The published names -> those of jax.image.resize."""

NAMES = {
    "ResidualBlock": "ConditionalResidualBlock",
    "RCUBlock": "CondRCUBlock",
    "MSFBlock": "CondMSFBlock",
    "CRPBlock": "CondCRPBlock",
    "RefineBlock": "CondRefineBlock",
}
"""The published name of every block's conditional form."""
EARLIER = {name: f"Conditional{block}" for block, name in NAMES.items() if name != f"Conditional{block}"}
"""What earlier versions of this project called those, in checkpoints that are still read."""


@dataclass(frozen=True)
class Options:
    """What all blocks of a network share; `num_classes` None: no label anywhere."""

    nonlinearity: str = "elu"
    interpolation: str = "bilinear"  # bilinear | nearest_neighbor
    num_classes: int | None = None
    dtype: Dtype = jnp.float32
    convolution: str = "native"
    remat: str = "none"  # of residual blocks and of the parts of refine blocks, see remat.py

    @property
    def conditional(self) -> bool:
        return self.num_classes is not None

    def act(self, x: Array) -> Array:
        return activation(self.nonlinearity)(x)

    def conv(self, features: int, name: str, *, size: int = 3, dilation: int = 1, bias: bool = True) -> Conv:
        """Convolution with the NCSN initialisation of kernel and bias."""
        init = {"kernel_init": ncsn_init(1.0), "bias_init": ncsn_bias(1.0)}
        common = {"use_bias": bias, "dtype": self.dtype, "convolution": self.convolution}
        return Conv(features, size, dilation=dilation, **init, **common, name=name)

    def norm(self, x: Array, label: Array | None, names: Names) -> Array:
        """InstanceNorm++ of x [B, H, W, C], conditional on label [B] if there are classes."""
        if self.num_classes is None:
            return InstanceNorm2dPlus(name=names("InstanceNorm2dPlus"))(x)
        if label is None:
            raise ValueError(f"the norms are conditional on {self.num_classes} classes: pass label [B]")
        norm = ConditionalInstanceNorm2dPlus(self.num_classes, name=names("ConditionalInstanceNorm2dPlus"))
        return norm(x, label)

    def kind(self, block: str) -> str:
        """The published class name of a block."""
        return NAMES[block] if self.conditional else block


class ConvMeanPool(nn.Module):
    """Convolution, then the mean of disjoint 2x2 squares: x [B, H, W, C] -> [B, H / 2, W / 2, features]."""

    features: int
    kernel_size: int = 3
    options: Options = Options()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init, options = initializers.lecun_normal(), self.options
        common = {"kernel_init": init, "dtype": options.dtype, "convolution": options.convolution}
        h = Conv(self.features, self.kernel_size, **common, name="Conv_0")(x)
        return naive_downsample(h, form=options.convolution)


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut: x [B, H, W, C], label [B] -> [B, H', W', features].

    With `down` the size is halved for dilation 1, and kept for a larger dilation, which widens the view instead.
    """

    features: int
    down: bool = False
    dilation: int = 1
    options: Options = Options()

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None) -> Array:
        options, names = self.options, Names()
        conv = lambda features, size=3: options.conv(features, names("Conv"), size=size, dilation=self.dilation)
        activate = lambda h: options.act(options.norm(h, label, names))
        shortcut = None
        if not self.down and x.shape[-1] != self.features:
            shortcut = conv(self.features, 1 if self.dilation == 1 else 3)  # named first: Conv_0
        h = conv(x.shape[-1] if self.down else self.features)(activate(x))
        h = activate(h)
        if self.down and self.dilation == 1:
            h = ConvMeanPool(self.features, 3, options, name="ConvMeanPool_0")(h)
            return h + ConvMeanPool(self.features, 1, options, name="ConvMeanPool_1")(x)
        h = conv(self.features)(h)
        if self.down:
            shortcut = conv(self.features)
        return h + (x if shortcut is None else shortcut(x))


class RCUBlock(nn.Module):
    """Residual convolutions: `num_blocks` times x + (convolution of activation, `num_stages` times).

    x [B, H, W, features], label [B]; the conditional form normalises before every activation.
    """

    features: int
    num_blocks: int
    num_stages: int = 2
    options: Options = Options()

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None) -> Array:
        options, names = self.options, Names()
        for _ in range(self.num_blocks):
            residual = x
            for _ in range(self.num_stages):
                x = options.norm(x, label, names) if options.conditional else x
                x = options.conv(self.features, names("Conv"), bias=False)(options.act(x))
            x = x + residual
        return x


class MSFBlock(nn.Module):
    """Multi-scale fusion: the sum of the inputs' convolutions, resized to the first input's shape.

    Each x [B, H_i, W_i, C_i], label [B] -> [B, H_0, W_0, features]; the conditional form normalises first.
    """

    features: int
    options: Options = Options()

    @nn.compact
    def __call__(self, xs: Sequence[Array], label: Array | None = None) -> Array:
        options, names, resized = self.options, Names(), []
        for x in xs:
            x = options.norm(x, label, names) if options.conditional else x
            h = options.conv(self.features, names("Conv"))(x)
            shape = (*xs[0].shape[:3], self.features)
            resized.append(jax.image.resize(h, shape, INTERPOLATIONS[options.interpolation]))
        return sum(resized[1:], resized[0])


class CRPBlock(nn.Module):
    """Chained residual pooling: x + the convolutions of ever wider 5x5 maxima of the activated x.

    x [B, H, W, features], label [B]; the conditional form takes means, of the normalised input.
    """

    features: int
    num_stages: int = 2
    options: Options = Options()

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None) -> Array:
        options, names = self.options, Names()
        x = options.act(x)
        path = x
        for _ in range(self.num_stages):
            path = mean_pool(options.norm(path, label, names)) if options.conditional else max_pool(path)
            path = options.conv(self.features, names("Conv"), bias=False)(path)
            x = path + x
        return x


class RefineBlock(nn.Module):
    """Join features of several resolutions at the first one's: RCU of each, MSF (if several), CRP, RCU.

    Each x [B, H_i, W_i, C_i], label [B] -> [B, H_0, W_0, features]; `end` makes the last RCU longer.
    """

    features: int
    end: bool = False
    options: Options = Options()

    @nn.compact
    def __call__(self, xs: Sequence[Array], label: Array | None = None) -> Array:
        options, names = self.options, Names()
        name, kept = lambda block: names(options.kind(block)), lambda block: remat(block, options.remat)
        rcu = lambda features, blocks: kept(RCUBlock)(features, blocks, options=options, name=name("RCUBlock"))
        hs = [rcu(x.shape[-1], 2)(x, label) for x in xs]
        h = hs[0] if len(hs) == 1 else kept(MSFBlock)(self.features, options, name=name("MSFBlock"))(hs, label)
        h = kept(CRPBlock)(self.features, options=options, name=name("CRPBlock"))(h, label)
        return rcu(self.features, 3 if self.end else 1)(h, label)
