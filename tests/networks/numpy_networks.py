"""NCSN, NCSNv2 and the WideResNet classifier in NumPy and float64, written from their published descriptions.

An oracle for the networks of which no output was recorded; NCSNv2 below reproduces the recorded one.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

Array = np.ndarray
Params = Any


def float64(tree: Any) -> Any:
    """JAX arrays -> NumPy arrays in double precision, in nested containers: everything below takes these."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def swish(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def dense(p: Params, x: Array) -> Array:
    return x @ p["kernel"] + p["bias"]


def windows(x: Array, size: int, stride: int = 1, dilation: int = 1, fill: float = 0.0) -> Array:
    """Every pixel's size x size surroundings, SAME padding: [B, H, W, C] -> [B, H', W', size, size, C]."""
    pads, counts = [], []
    for n in x.shape[1:3]:
        count = -(-n // stride)
        total = max((count - 1) * stride + (size - 1) * dilation + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
        counts.append(count)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    rows, columns = (np.arange(count)[:, None] * stride + np.arange(size)[None, :] * dilation for count in counts)
    return padded[:, rows[:, None, :, None], columns[None, :, None, :]]


def conv(p: Params, x: Array, stride: int = 1, dilation: int = 1) -> Array:
    y = np.einsum("nijabc,abco->nijo", windows(x, len(p["kernel"]), stride, dilation), p["kernel"])
    return y + p["bias"] if "bias" in p else y


def mean_of_squares(x: Array, size: int = 2) -> Array:
    """Mean of disjoint size x size squares."""
    return windows(x, size, size).mean((3, 4))


def resize(x: Array, shape: Sequence[int], bilinear: bool) -> Array:
    """Half-pixel centres; beyond the outermost centres the nearest one."""
    matrices = []
    for new, old in zip(shape, x.shape[1:3], strict=True):
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        centres = centres if bilinear else np.round(centres)
        matrices.append(np.stack([np.interp(centres, np.arange(old), row) for row in np.eye(old)], axis=1))
    return np.einsum("ip,jq,npqc->nijc", *matrices, x)


# The NCSN family. label is None or integers [B]; with it every block is the conditional one.


def norm(p: Params, index: int, x: Array, label: Array | None) -> Array:
    """InstanceNorm++."""
    if label is None:
        own = p[f"InstanceNorm2dPlus_{index}"]
        gamma, alpha, beta = (own[name].reshape(1, -1) for name in ("gamma", "alpha", "beta"))
    else:
        table = p[f"ConditionalInstanceNorm2dPlus_{index}"]["Embed_0"]["embedding"][label]
        c = x.shape[-1]
        gamma, alpha, beta = table[:, :c], table[:, c : 2 * c], table[:, 2 * c :]
    means = x.mean((1, 2))
    means_plus = (means - means.mean(1)[:, None]) / np.sqrt(means.var(1)[:, None] + 1e-5)
    z = (x - means[:, None, None]) / np.sqrt(x.var((1, 2))[:, None, None] + 1e-5)
    return (z + (means_plus * alpha)[:, None, None]) * gamma[:, None, None] + beta[:, None, None]


def residual(p: Params, x: Array, label: Array | None, down: bool, dilation: int) -> Array:
    h = elu(norm(p, 0, x, label))
    if down and dilation == 1:
        h = elu(norm(p, 1, conv(p["Conv_0"], h), label))
        pooled = mean_of_squares(conv(p["ConvMeanPool_0"]["Conv_0"], h))
        return pooled + mean_of_squares(conv(p["ConvMeanPool_1"]["Conv_0"], x))
    names = ["Conv_0", "Conv_1", "Conv_2"]
    if down:
        first, second, shortcut = names
    elif "Conv_2" in p:
        shortcut, first, second = names
    else:
        first, second, shortcut = "Conv_0", "Conv_1", None
    h = conv(p[first], h, dilation=dilation)
    h = conv(p[second], elu(norm(p, 1, h, label)), dilation=dilation)
    return h + (x if shortcut is None else conv(p[shortcut], x, dilation=dilation))


def rcu(p: Params, x: Array, label: Array | None, blocks: int) -> Array:
    for block in range(blocks):
        h = x
        for stage in (2 * block, 2 * block + 1):
            h = h if label is None else norm(p, stage, h, label)
            h = conv(p[f"Conv_{stage}"], elu(h))
        x = x + h
    return x


def msf(p: Params, xs: Sequence[Array], label: Array | None, bilinear: bool = True) -> Array:
    hs = xs if label is None else [norm(p, i, x, label) for i, x in enumerate(xs)]
    return sum(resize(conv(p[f"Conv_{i}"], h), xs[0].shape[1:3], bilinear) for i, h in enumerate(hs))


def crp(p: Params, x: Array, label: Array | None) -> Array:
    total = path = elu(x)
    for stage in (0, 1):
        if label is None:
            path = windows(path, 5, fill=-np.inf).max((3, 4))
        else:
            path = windows(norm(p, stage, path, label), 5).sum((3, 4)) / 25
        path = conv(p[f"Conv_{stage}"], path)
        total = total + path
    return total


def refine(p: Params, xs: Sequence[Array], label: Array | None, end: bool = False, bilinear: bool = True) -> Array:
    prefix = "" if label is None else "Cond"
    hs = [rcu(p[f"{prefix}RCUBlock_{i}"], x, label, 2) for i, x in enumerate(xs)]
    h = msf(p[f"{prefix}MSFBlock_0"], hs, label, bilinear) if len(xs) > 1 else hs[0]
    h = crp(p[f"{prefix}CRPBlock_0"], h, label)
    return rcu(p[f"{prefix}RCUBlock_{len(xs)}"], h, label, 3 if end else 1)


NCSN_BLOCKS = {  # every residual block: (down, dilation); the output of every second one is kept
    64: "- - down - down2 -2 down4 -4",
    128: "- - down - down - down2 -2 down4 -4",
    256: "- - down - down - down - down2 -2 down4 -4",
}


def ncsn(
    p: Params, x: Array, layout: int, label: Array | None = None, sigma: Array | None = None, bilinear: bool = True
) -> Array:
    """x in [0, 1], all widths read off the parameters."""
    prefix = "" if label is None else "Cond"
    h, kept = conv(p["Conv_0"], 2 * x - 1), []
    for i, block in enumerate(NCSN_BLOCKS[layout].split()):
        dilation = int(block.lstrip("down-") or 1)
        h = residual(p[f"{prefix and 'Conditional'}ResidualBlock_{i}"], h, label, block.startswith("down"), dilation)
        kept += [h] if i % 2 else []
    for i, level in enumerate(reversed(kept)):
        inputs = [level] if i == 0 else [level, h]
        h = refine(p[f"{prefix}RefineBlock_{i}"], inputs, label, i == len(kept) - 1, bilinear)
    y = conv(p["Conv_1"], elu(norm(p, 0, h, label)))
    return y if sigma is None else y / sigma[:, None, None, None]


# The classifier.


def group_norm_relu(p: Params, x: Array) -> Array:
    b, h, w, c = x.shape
    grouped = x.reshape(b, h * w, min(c // 4, 32), -1)
    mean, var = (f(grouped, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    return relu(((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * p["scale"] + p["bias"])


def wide_block(p: Params, x: Array, temb: Array, stride: int, activate_first: bool) -> Array:
    activated = group_norm_relu(p["init_bn"], x)
    h = conv(p["conv1"], activated, stride) + dense(p["Dense_0"], swish(temb))[:, None, None]
    h = conv(p["conv2"], group_norm_relu(p["bn_2"], h))
    shortcut = activated if activate_first else x
    if shortcut.shape[-1] == h.shape[-1]:
        return shortcut + h
    shortcut = mean_of_squares(shortcut, stride)
    return h + np.concatenate([shortcut, np.zeros((*h.shape[:3], h.shape[-1] - shortcut.shape[-1]))], axis=-1)


def wide_resnet(p: Params, x: Array, sigma: Array) -> Array:
    deviation = np.maximum(x.std((1, 2, 3)), x[0].size ** -0.5)
    x = (x - x.mean((1, 2, 3))[:, None, None, None]) / deviation[:, None, None, None]
    phase = np.log(sigma)[:, None] * p["GaussianFourierProjection_0"]["W"] * 2 * np.pi
    temb = dense(p["Dense_0"], np.concatenate([np.sin(phase), np.cos(phase)], axis=-1))
    temb = dense(p["Dense_1"], swish(temb))
    h = conv(p["init_conv"], x)
    for g in range(3):
        group = p[f"WideResnetGroup_{g}"]
        for b in range(len(group)):
            stride = 2 if g > 0 and b == 0 else 1
            h = wide_block(group[f"WideResnetBlock_{b}"], h, temb, stride, (g, b) == (0, 0))
    return dense(p["Dense_2"], group_norm_relu(p["pre-pool-bn"], h).mean((1, 2)))
