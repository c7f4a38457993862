"""EDM's SongUNet in NumPy and float64, written from its published description, which makes its own state dict.

Source: Karras et al. 2022, appendix F, and the names of its release. Images are [B, H, W, C], weights PyTorch's.
"""

from typing import Any

import numpy as np

from tests.networks.numpy_networks import swish, windows

Array = np.ndarray


class SongUNet:
    """A tiny one; `state` is the state dict of it within EDMPrecond, filled by the first call."""

    def __init__(self, fourier: bool, size: int = 8, nf: int = 8, ch_mult: Any = (1, 2), blocks: int = 1) -> None:
        self.fourier, self.size, self.nf, self.ch_mult, self.blocks = fourier, size, nf, ch_mult, blocks
        self.attends = (4,)
        self.state: dict[str, Array] = {}
        self.random = np.random.default_rng(0)
        taps = np.array([1, 3, 3, 1] if fourier else [1, 1], np.float64)
        self.filter = np.outer(taps, taps) / taps.sum() ** 2

    def weight(self, name: str, *shape: int) -> Array:
        name = f"model.{name}"
        if name not in self.state:
            scale = np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 2.0
            shift = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            self.state[name] = (self.random.normal(size=shape) / scale + shift).astype(np.float32)
        return self.state[name].astype(np.float64)

    def linear(self, name: str, x: Array, features: int, bias: bool = True) -> Array:
        y = x @ self.weight(f"{name}.weight", features, x.shape[-1]).T
        return y + self.weight(f"{name}.bias", features) if bias else y

    def conv(self, name: str, x: Array, features: int, size: int = 3, resample: str = "") -> Array:
        if resample:
            self.state[f"model.{name}.resample_filter"] = self.filter[None, None].astype(np.float32)
            x = self.resampled(x, resample)
        kernel = self.weight(f"{name}.weight", features, x.shape[-1], size, size)
        return np.einsum("nijabc,ocab->nijo", windows(x, size), kernel) + self.weight(f"{name}.bias", features)

    def resampled(self, x: Array, direction: str) -> Array:
        """Down: filtered, every second pixel kept. Up: zeros put between pixels, filtered with four times the gain."""
        k = len(self.filter)
        pad = (k - 1) // 2
        if direction == "down":
            padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            view = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (1, 2))[:, ::2, ::2]
            return np.einsum("nijcab,ab->nijc", view, self.filter)
        b, h, w, c = x.shape
        full = np.zeros((b, 2 * h + k - 2, 2 * w + k - 2, c))
        for i in range(k):
            for j in range(k):
                full[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += 4 * self.filter[i, j] * x
        return full[:, pad : pad + 2 * h, pad : pad + 2 * w]

    def norm(self, name: str, x: Array) -> Array:
        b, h, w, c = x.shape
        groups = x.reshape(b, h * w, min(32, c // 4), -1)
        centred = groups - groups.mean((1, 3), keepdims=True)
        y = centred / np.sqrt((centred**2).mean((1, 3), keepdims=True) + 1e-6)
        return y.reshape(x.shape) * self.weight(f"{name}.weight", c) + self.weight(f"{name}.bias", c)

    def block(self, name: str, x: Array, emb: Array, features: int, resample: str = "", attends: bool = False) -> Array:
        h = self.conv(f"{name}.conv0", swish(self.norm(f"{name}.norm0", x)), features, 3, resample)
        h = h + self.linear(f"{name}.affine", emb, features)[:, None, None]
        h = self.conv(f"{name}.conv1", swish(self.norm(f"{name}.norm1", h)), features)
        if resample or x.shape[-1] != features:
            x = self.conv(f"{name}.skip", x, features, 1, resample)
        x = (h + x) * np.sqrt(0.5)
        return (self.attention(name, x) + x) * np.sqrt(0.5) if attends else x

    def attention(self, name: str, x: Array) -> Array:
        b, h, w, c = x.shape
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x), 3 * c, 1)
        q, k, v = np.moveaxis(qkv.reshape(b, h * w, c, 3), 3, 0)
        logits = np.einsum("nqc,nkc->nqk", q, k) / np.sqrt(c)
        weights = np.exp(logits - logits.max(2, keepdims=True))
        a = np.einsum("nqk,nkc->nqc", weights / weights.sum(2, keepdims=True), v)
        return self.conv(f"{name}.proj", a.reshape(x.shape), c, 1)

    def embedding(self, label: Array, augment: Array) -> Array:
        """`label` is ln(sigma) / 4."""
        if self.fourier:
            angles = np.outer(label, 2 * np.pi * self.weight("map_noise.freqs", self.nf))
        else:
            half = self.nf // 2
            angles = np.outer(label, (1 / 10000) ** (np.arange(half) / (half - 1)))
        emb = np.concatenate([np.sin(angles), np.cos(angles)], 1)
        emb = emb + self.linear("map_augment", augment, emb.shape[1], bias=False)
        emb = swish(self.linear("map_layer0", emb, 4 * self.nf))
        return swish(self.linear("map_layer1", emb, 4 * self.nf))

    def residual_pyramid(self, name: str, aux: Array, features: int) -> Array:
        """A 3x3 convolution and the filter behind it, of images with zeros around."""
        self.state[f"model.{name}.resample_filter"] = self.filter[None, None].astype(np.float32)
        kernel = self.weight(f"{name}.weight", features, aux.shape[-1], 3, 3)
        wide = np.einsum("nijabc,ocab->nijo", windows(np.pad(aux, ((0, 0), (1, 1), (1, 1), (0, 0))), 3), kernel)
        view = np.lib.stride_tricks.sliding_window_view(wide, (4, 4), (1, 2))[:, ::2, ::2]
        return np.einsum("nijcab,ab->nijc", view, self.filter) + self.weight(f"{name}.bias", features)

    def __call__(self, x: Array, label: Array, augment: Array) -> Array:
        emb, aux, skips = self.embedding(label, augment), x, []
        sizes = [self.size >> level for level in range(len(self.ch_mult))]
        for level, (s, mult) in enumerate(zip(sizes, self.ch_mult)):
            if level == 0:
                x = self.conv(f"enc.{s}x{s}_conv", x, self.nf)
            else:
                x = self.block(f"enc.{s}x{s}_down", x, emb, x.shape[-1], "down")
                if self.fourier:
                    x = aux = (x + self.residual_pyramid(f"enc.{s}x{s}_aux_residual", aux, x.shape[-1])) / np.sqrt(2)
            skips.append(x)
            for i in range(self.blocks):
                x = self.block(f"enc.{s}x{s}_block{i}", x, emb, mult * self.nf, attends=s in self.attends)
                skips.append(x)
        for s, mult in reversed(list(zip(sizes, self.ch_mult))):
            if s == sizes[-1]:
                x = self.block(f"dec.{s}x{s}_in0", x, emb, x.shape[-1], attends=True)
                x = self.block(f"dec.{s}x{s}_in1", x, emb, x.shape[-1])
            else:
                x = self.block(f"dec.{s}x{s}_up", x, emb, x.shape[-1], "up")
            for i in range(self.blocks + 1):
                attends = i == self.blocks and s in self.attends
                joined = np.concatenate([x, skips.pop()], -1)
                x = self.block(f"dec.{s}x{s}_block{i}", joined, emb, mult * self.nf, attends=attends)
        return self.conv(f"dec.{s}x{s}_aux_conv", swish(self.norm(f"dec.{s}x{s}_aux_norm", x)), 3)
