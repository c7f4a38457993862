"""Resampling by two with small FIR filters (StyleGAN2 conventions), as sums of shifted slices or depthwise.

Slices, pads and adds have cheap gradients on CPU and GPU. A TPU, whose compiler copies every slice, takes a fifth of
the time for one depthwise convolution, the form "depthwise" (see conv.CONVOLUTIONS).
"""

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
import numpy as np
from jax import lax

from score_sde.networks.conv import convolve, dimensions
from score_sde.networks.padding import surround, wrap_axis
from score_sde.typing import Array

Pair = tuple[int, int]
Kernel = Sequence[float]
Axes = Sequence[int]
"""The circular axes, of which 0 is the first one of space."""


def upfirdn(
    x: Array,
    kernel: np.ndarray,
    *,
    pad: Sequence[Pair],
    up: Sequence[int] | None = None,
    down: Sequence[int] | None = None,
    circular: Axes = (),
) -> Array:
    """Zero-insert by `up`, pad, convolve every channel with `kernel`, keep every `down`-th place: depthwise.

    x [B, *space, C], kernel of space's rank k_i -> [B, (n_i up_i + p0 + p1 - k_i) // down_i + 1, ..., C]. pad: a pair
    for every axis of space, negative ones crop; up and down: a number for every one, None for 1.
    Source: Karras et al. 2020 (StyleGAN2), upfirdn2d.
    """
    up, pad = up or [1] * len(pad), list(pad)
    for axis in circular:
        around = [max(-(-p // up[axis]), 0) for p in pad[axis]]
        x = wrap_axis(x, axis + 1, *around)
        pad[axis] = (pad[axis][0] - up[axis] * around[0], pad[axis][1] - up[axis] * around[1])
    flipped = jnp.asarray(np.flip(np.asarray(kernel)), x.dtype)
    return lax.conv_general_dilated(
        x,
        jnp.broadcast_to(flipped[..., None, None], (*flipped.shape, 1, x.shape[-1])),
        down or [1] * len(pad),
        [(p0, p1 + u - 1) for u, (p0, p1) in zip(up, pad, strict=True)],
        lhs_dilation=up,
        dimension_numbers=dimensions(len(pad)),
        feature_group_count=x.shape[-1],
        precision=lax.Precision.HIGHEST,  # as exact as the sums
    )


def upsample(
    x: Array,
    kernel: Kernel | None = None,
    *,
    factor: int = 2,
    gain: float = 1.0,
    form: str = "native",
    circular: Axes = (),
) -> Array:
    """Upsample every axis of space by zero-insertion and the FIR filter with gain `factor`: [B, *space, C].

    For (1, 3, 3, 1), per axis: y[2i] = (x[i-1] + 3 x[i]) / 4 and y[2i+1] = (3 x[i] + x[i+1]) / 4, x being 0 outside, or
    periodic along the circular axes.
    """
    taps, rank = _taps(kernel, factor) * factor, x.ndim - 2
    before = (len(taps) - factor + 1) // 2 + factor - 1
    if form == "depthwise":
        pad = (before, (len(taps) - factor) // 2)
        return upfirdn(x, gain * _outer(taps, rank), up=[factor] * rank, pad=[pad] * rank, circular=circular)
    for axis in range(rank):
        own = taps if axis else taps * gain
        x = _upsample_axis(x, axis + 1, own, factor, before, axis in circular)
    return x


def downsample(
    x: Array,
    kernel: Kernel | None = None,
    *,
    factor: int = 2,
    gain: float = 1.0,
    form: str = "native",
    circular: Axes = (),
) -> Array:
    """Downsample every axis of space by the FIR filter and decimation: [B, *space, C], space over `factor`.

    For (1, 3, 3, 1), per axis: y[i] = (x[2i-1] + 3 x[2i] + 3 x[2i+1] + x[2i+2]) / 8, x being 0 outside, or periodic
    along the circular axes.
    """
    taps = _taps(kernel, factor)
    margin = len(taps) - factor
    pads = [((margin + 1) // 2, margin // 2)] * (x.ndim - 2)
    return _filter(x, taps, pads, form, circular, factor, gain)


def upsample_conv(
    x: Array, w: Array, kernel: Kernel | None = None, *, form: str = "native", circular: Axes = ()
) -> Array:
    """Transposed convolution of stride two, then the FIR filter with gain 2 per axis: [B, *space, C] -> [B, ..., O]."""
    taps = _taps(kernel, 2) * 2
    reach, rank = w.shape[0] - 1, x.ndim - 2
    margin = len(taps) - 2 - reach
    before, after = (margin + 1) // 2 + 1, margin // 2 + 1
    # Along a circular axis a zero follows the last place too, and the convolution gives one period.
    spread = [(0, 1, 1) if axis in circular else (reach, reach, 1) for axis in range(rank)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    pads = [(reach, 0) if axis in circular else (0, 0) for axis in range(rank)]
    y = convolve(x, w, padding=pads, form=form, circular=circular)
    pads = [(before, after + reach - 1 if axis in circular else after) for axis in range(rank)]
    return _filter(y, taps, pads, form, circular)


def conv_downsample(
    x: Array, w: Array, kernel: Kernel | None = None, *, form: str = "native", circular: Axes = ()
) -> Array:
    """The FIR filter, then a convolution of stride two: [B, *space, C] -> half of space, O."""
    taps = _taps(kernel, 2)
    margin = len(taps) - 2 + w.shape[0] - 1
    pads = [((margin + 1) // 2, margin // 2)] * (x.ndim - 2)
    return convolve(_filter(x, taps, pads, form, circular), w, stride=2, padding="VALID", form=form)


def _filter(
    x: Array,
    taps: np.ndarray,
    pads: Sequence[Pair],
    form: str,
    circular: Axes,
    step: int = 1,
    gain: float = 1.0,
) -> Array:
    """The filter along every axis of space, of which every step-th place is kept."""
    if form == "depthwise":
        return upfirdn(x, gain * _outer(taps, len(pads)), down=[step] * len(pads), pad=pads, circular=circular)
    for axis, pad in enumerate(pads):
        x = filter_axis(x, axis + 1, taps if axis else taps * gain, pad, step, axis in circular)
    return x


def naive_upsample(x: Array, *, form: str = "native") -> Array:
    """Repeat every place of [B, *space, C] twice along every axis of space."""
    if form == "depthwise":
        return upsample(x, form=form)
    b, *space, c = x.shape
    twice = [n for side in space for n in (side, 2)]
    tiled = jnp.broadcast_to(jnp.expand_dims(x, tuple(range(2, 2 * len(space) + 1, 2))), (b, *twice, c))
    return tiled.reshape(b, *(2 * side for side in space), c)


def naive_downsample(x: Array, *, form: str = "native") -> Array:
    """Mean of disjoint pairs of x [B, *space, C], along every axis of space: of 2x2 squares in an image."""
    if form == "depthwise":
        return downsample(x, form=form)
    b, *space, c = x.shape
    pairs = [n for side in space for n in (side // 2, 2)]
    return x.reshape(b, *pairs, c).mean(tuple(range(2, 2 * len(space) + 1, 2)))


def filter_axis(x: Array, axis: int, taps: np.ndarray, pad: Pair, step: int = 1, circular: bool = False) -> Array:
    """y[i] = sum_m taps[K-1-m] x_padded[i step + m] along one axis."""
    x = surround(x, axis, *pad, circular)
    count = (x.shape[axis] - len(taps)) // step + 1
    terms = [float(tap) * _every(x, axis, m, step, count) for m, tap in enumerate(taps[::-1])]
    return sum(terms[1:], terms[0])


def _outer(taps: np.ndarray, rank: int) -> np.ndarray:
    """The filter over so many axes, the product of those along each."""
    return reduce(np.multiply.outer, [taps] * rank)


def _taps(kernel: Kernel | None, factor: int) -> np.ndarray:
    """The one-dimensional filter normalised to sum 1; None is the box of the factor's length."""
    taps = np.ones(factor) if kernel is None else np.asarray(kernel, np.float64)
    if taps.ndim != 1 or taps.sum() == 0:
        raise ValueError(f"the FIR kernel {kernel} must be one-dimensional with a non-zero sum, such as (1, 3, 3, 1)")
    return taps / taps.sum()


def _every(x: Array, axis: int, start: int, step: int, count: int) -> Array:
    return lax.slice_in_dim(x, start, start + (count - 1) * step + 1, step, axis)


def _upsample_axis(x: Array, axis: int, taps: np.ndarray, factor: int, before: int, circular: bool) -> Array:
    """Polyphase form: y[factor i + r] = sum_m taps[K-1-m] x[i + s], over m with s = (r + m - before) / factor whole."""
    last = len(taps) - 1
    phases = [
        [(float(taps[last - m]), (r + m - before) // factor) for m in range((before - r) % factor, last + 1, factor)]
        for r in range(factor)
    ]
    shifts = [shift for phase in phases for _, shift in phase]
    low, high = max(0, -min(shifts)), max(0, max(shifts))
    padded, length = surround(x, axis, low, high, circular), x.shape[axis]
    sums = []
    for phase in phases:
        terms = [tap * _every(padded, axis, low + shift, 1, length) for tap, shift in phase]
        sums.append(sum(terms, jnp.zeros_like(x)))
    shape = (*x.shape[:axis], factor * length, *x.shape[axis + 1 :])
    return jnp.stack(sums, axis + 1).reshape(shape)
