"""The Inception network of 2015-12-05 whose features the Fréchet inception distance is defined by, under its names.

Not today's Inception v3: other weights, 1,008 classes, average pooling that counts the cells inside the image alone, a
maximum in the last block. Sources: Szegedy et al. 2016; Heusel et al. 2017.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from score_sde.typing import Array

SIDE = 299
"""Height and width of the input."""
FEATURES = {"64": 64, "192": 192, "768": 768, "2048": 2048}
"""Names of the features, by where they are taken, and how many numbers each has."""
CLASSES = 1008
HIGHEST = lax.Precision.HIGHEST
"""float32 that no accelerator rounds to fewer digits."""
VARIANCE_FLOOR = 1e-3
"""What batch normalisation adds to the variance."""


class Conv(NamedTuple):
    """A convolution, batch normalisation, ReLU. valid: without zeros around the image, as all of stride 2."""

    name: str
    features: int
    sides: tuple[int, int] = (1, 1)
    stride: int = 1
    valid: bool = False


class Pool(NamedTuple):
    """Over 3x3; of stride 2 without a margin, of stride 1 with one that no mean counts and no maximum sees."""

    kind: str
    stride: int = 1


Split = tuple[Conv, ...]
"""Convolutions of one input, side by side."""
Branch = tuple[Conv | Pool | Split, ...]

MEAN, MAX, SHRINK = Pool("mean"), Pool("max"), Pool("max", 2)


def _a(pooled: int) -> tuple[Branch, ...]:
    return (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))),
        (MEAN, Conv("branch_pool", pooled)),
    )


_B: tuple[Branch, ...] = (
    (Conv("branch3x3", 384, (3, 3), 2, valid=True),),
    (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3), 2, valid=True),
    ),
    (SHRINK,),
)


def _c(inner: int) -> tuple[Branch, ...]:
    wide, tall = (1, 7), (7, 1)
    return (
        (Conv("branch1x1", 192),),
        (Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, wide), Conv("branch7x7_3", 192, tall)),
        (
            Conv("branch7x7dbl_1", inner),
            Conv("branch7x7dbl_2", inner, tall),
            Conv("branch7x7dbl_3", inner, wide),
            Conv("branch7x7dbl_4", inner, tall),
            Conv("branch7x7dbl_5", 192, wide),
        ),
        (MEAN, Conv("branch_pool", 192)),
    )


_D: tuple[Branch, ...] = (
    (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2, valid=True)),
    (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), 2, valid=True),
    ),
    (SHRINK,),
)


def _e(pool: Pool) -> tuple[Branch, ...]:
    two = lambda name: (Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1)))
    return (
        (Conv("branch1x1", 320),),
        (Conv("branch3x3_1", 384), two("branch3x3_2")),
        (Conv("branch3x3dbl_1", 448), Conv("branch3x3dbl_2", 384, (3, 3)), two("branch3x3dbl_3")),
        (pool, Conv("branch_pool", 192)),
    )


STEM: tuple[Conv | Pool, ...] = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), 2, valid=True),
    Conv("Conv2d_2a_3x3", 32, (3, 3), valid=True),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    SHRINK,
    Conv("Conv2d_3b_1x1", 80, valid=True),
    Conv("Conv2d_4a_3x3", 192, (3, 3), valid=True),
    SHRINK,
)
BLOCKS: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _a(32), "Mixed_5c": _a(64), "Mixed_5d": _a(64), "Mixed_6a": _B, "Mixed_6b": _c(128),
    "Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192), "Mixed_7a": _D, "Mixed_7b": _e(MEAN),
    "Mixed_7c": _e(MAX),
}  # fmt: skip


class Inception(nn.Module):
    """The features {name: [N, d]} of images x [N, 299, 299, 3] in [-1, 1], float32.

    Parameters {block: {layer: {"kernel" [kh, kw, in, out], "bias" [out]}}}, of the layers before the blocks and of `fc`
    without a block, are the published ones with batch normalisation folded in (`folded`). With `head` there are
    "logits_unbiased" [N, 1008], of which inception scores are made, and "logits".
    """

    head: bool = False

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        means = {}
        for item in STEM:
            x = _pool(x, item) if isinstance(item, Pool) else _layer(x, item)
            if isinstance(item, Pool):
                means[str(x.shape[-1])] = x.mean((1, 2))
        for name, branches in BLOCKS.items():
            x = Block(branches, name=name)(x)
            if name in ("Mixed_6e", "Mixed_7c"):
                means[str(x.shape[-1])] = x.mean((1, 2))
        if self.head:
            kernel, bias = Parameters(CLASSES, name="fc")(x.shape[-1])
            means["logits_unbiased"] = jnp.matmul(means["2048"], kernel[0, 0], precision=HIGHEST)
            means["logits"] = means["logits_unbiased"] + bias[None]
        return means


class Block(nn.Module):
    """Branches side by side, concatenated over channels.

    Those that begin with a 1x1 convolution share it: one matrix product. A mean before a 1x1 convolution is taken
    behind it, where there are fewer channels; the two are linear and commute.
    """

    branches: tuple[Branch, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shared = [conv for branch in self.branches if (conv := _leading(branch))]
        parameters = {conv.name: Parameters(conv.features, name=conv.name)(x.shape[-1]) for conv in shared}
        kernel = jnp.concatenate([parameters[conv.name][0] for conv in shared], axis=-1)
        ends = np.cumsum([conv.features for conv in shared])[:-1]
        parts = dict(zip(parameters, jnp.split(_convolve(x, kernel), ends, axis=-1)))
        found = []
        for branch in self.branches:
            y, rest = x, branch
            if conv := _leading(branch):
                y, rest = parts[conv.name], branch[1 + branch.index(conv) :]
                y = nn.relu((_pool(y, MEAN) if branch[0] == MEAN else y) + parameters[conv.name][1][None, None, None])
            for item in rest:
                if isinstance(item, Pool):
                    y = _pool(y, item)
                elif isinstance(item, Conv):
                    y = _layer(y, item)
                else:
                    y = jnp.concatenate([_layer(y, conv) for conv in item], axis=-1)
            found.append(y)
        return jnp.concatenate(found, axis=-1)


class Parameters(nn.Module):
    """A layer's kernel [kh, kw, channels, features] and bias [features], zeros until they are read from a file."""

    features: int
    sides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, channels: int) -> tuple[Array, Array]:
        shape, zeros = (*self.sides, channels, self.features), nn.initializers.zeros_init()
        return self.param("kernel", zeros, shape), self.param("bias", zeros, shape[-1:])


def _leading(branch: Branch) -> Conv | None:
    """The 1x1 convolution that the branch begins with, but for a mean."""
    first = branch[1] if branch[0] == MEAN else branch[0]
    return first if isinstance(first, Conv) and first.sides == (1, 1) else None


def _layer(x: Array, conv: Conv) -> Array:
    """One convolution of that name in the module that calls, its bias and ReLU."""
    kernel, bias = Parameters(conv.features, conv.sides, name=conv.name)(x.shape[-1])
    return nn.relu(_convolve(x, kernel, conv.stride, conv.valid) + bias[None, None, None])


def _convolve(x: Array, kernel: Array, stride: int = 1, valid: bool = False) -> Array:
    """Without a margin where valid, else with zeros around.

    XLA's convolutions of 2026 take twice to three times as long on processors without a margin or with a stride, and
    half as long again of 1x1 as the product that they are: so the margin is made and cut off, and strides are products
    with the pixels under the kernel side by side. On two cores the network takes 0.55 times as long.
    """
    rows, columns = kernel.shape[:2]
    if stride > 1:
        x = _under_kernel(x, rows, columns, stride)
    if stride > 1 or rows == columns == 1:
        return jnp.matmul(x, kernel.reshape(-1, kernel.shape[-1]), precision=HIGHEST)
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=HIGHEST
    )
    return y[:, rows // 2 : -(rows // 2), columns // 2 : -(columns // 2)] if valid else y


def _under_kernel(x: Array, rows: int, columns: int, stride: int) -> Array:
    """The pixels that a kernel without a margin covers at each place: [N, H', W', rows * columns * C]."""
    height, width = ((side - k) // stride for side, k in zip(x.shape[1:3], (rows, columns)))
    steps = lambda start, last: slice(start, start + last * stride + 1, stride)
    parts = [x[:, steps(i, height), steps(j, width)] for i in range(rows) for j in range(columns)]
    return jnp.concatenate(parts, axis=-1)


def _pool(x: Array, pool: Pool) -> Array:
    if pool == MEAN:
        return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
    return nn.max_pool(x, (3, 3), (pool.stride, pool.stride), "SAME" if pool.stride == 1 else "VALID")


def layers() -> dict[str, tuple[int, ...]]:
    """The shape OIHW of every convolution's weight by its published name, such as "Mixed_5b.branch1x1", in order."""
    found, channels = {}, 3
    for item in STEM:
        if isinstance(item, Conv):
            found[item.name] = (item.features, channels, *item.sides)
            channels = item.features
    for name, branches in BLOCKS.items():
        inside, channels = channels, 0
        for branch in branches:
            width = inside
            for item in branch:
                convs = () if isinstance(item, Pool) else (item,) if isinstance(item, Conv) else item
                found |= {f"{name}.{conv.name}": (conv.features, width, *conv.sides) for conv in convs}
                width = sum(conv.features for conv in convs) or width
            channels += width
    return found


class Normalised(NamedTuple):
    """A layer as published: weight OIHW, and of its batch normalisation gamma, beta, mean and variance, each [O]."""

    weight: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def folded(published: Mapping[str, Normalised], head: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
    """The module's parameters of published layers, by name as `layers` has them: y = gamma (x - mean) / std + beta.

    std^2 = variance + 1e-3. head: weight [1008, 2048] and bias [1008] of `fc`. In float64, then rounded.
    """
    tree: dict[str, Any] = {}
    for name, layer in published.items():
        weight, gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in layer)
        scale = gamma / np.sqrt(variance + VARIANCE_FLOOR)
        kernel = (weight * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        *block, last = name.split(".")
        place = tree.setdefault(block[0], {}) if block else tree
        place[last] = {"kernel": kernel.astype(np.float32), "bias": (beta - mean * scale).astype(np.float32)}
    if head is not None:
        tree["fc"] = {"kernel": np.asarray(head[0], np.float32).T[None, None], "bias": np.asarray(head[1], np.float32)}
    return tree
