"""Convolution over any number of axes, and its forms for CPU.

XLA's CPU backend runs a convolution's own gradient 20 to 60 times slower inside `lax.scan` than at top level: it
recognises only canonical dimension orders there. The gradients below are plain forward convolutions, or like these in
Winograd's form where that is faster.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from score_sde.networks import winograd
from score_sde.networks.padding import wrap_axis
from score_sde.typing import Array

Pads = tuple[tuple[int, int], ...]
"""Of every axis of space what is put before and after it."""

CONVOLUTIONS = ("native", "depthwise", "backwards")
"""native: XLA's own, with its gradients. depthwise: so too, and filters (resampling.py) as depthwise ones, for TPU.

backwards: for CPU, to be differentiated in reverse mode, inside a loop too, in Winograd's form where it pays; it has
no forward mode (jvp). Without a gradient it takes 0.64 of XLA's own time in the digits' network and 1.1 in CIFAR-10's.
"""


def convolve(
    x: Array,
    w: Array,
    *,
    stride: int = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    dilation: int = 1,
    form: str = "native",
    circular: Sequence[int] = (),
) -> Array:
    """Cross-correlation, over two axes y[i, j, o] = sum_abc x[i s + a d, j s + b d, c] w[a, b, c, o] of the padded x.

    x [B, *space, C], w [*window, C, O] -> [B, *space', O]; `padding` is "SAME", "VALID" or a pair (before, after) for
    every axis of space: of zeros, or of the other end's x along the axes in `circular`, whose numbers begin at 0 for
    the first one of space. `form`, one of CONVOLUTIONS, is how it is computed, which changes values by rounding alone.
    """
    pads = _explicit_pads(x.shape, w.shape, stride, padding, dilation)
    for axis in circular:
        x = wrap_axis(x, axis + 1, *pads[axis])
        pads = (*pads[:axis], (0, 0), *pads[axis + 1 :])
    if set(w.shape[:-2]) == {1} and stride == 1 and not any(map(any, pads)):
        return pointwise(x, w[(0,) * len(pads)])
    if form != "backwards":
        return _correlate(x, w, pads, stride=stride, dilation=dilation)
    return _reversible(x, w, stride, pads, dilation)


def pointwise(x: Array, w: Array) -> Array:
    """x w at every place: x [B, ..., C], w [C, O] -> [B, ..., O].

    One product of matrices: with its pixels in several axes, CPU's compiler would transpose x for the gradient.
    """
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


def _explicit_pads(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: int,
    padding: str | Sequence[tuple[int, int]],
    dilation: int,
) -> Pads:
    if isinstance(padding, str):
        window = [(k - 1) * dilation + 1 for k in w_shape[:-2]]
        padding = lax.padtype_to_pads(x_shape[1:-1], window, [stride] * len(window), padding)
    return tuple((int(before), int(after)) for before, after in padding)


def _correlate(
    x: Array,
    w: Array,
    pads: Pads,
    *,
    interior: int = 0,
    stride: int = 1,
    dilation: int = 1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Forward convolution in canonical dimension order; zero-interleaving and cropping are done by an explicit pad."""
    rank = len(pads)
    if interior or min(map(min, pads)) < 0:
        spatial = [(*pair, interior) for pair in pads]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])
        pads = ((0, 0),) * rank
    return lax.conv_general_dilated(
        x,
        w,
        (stride,) * rank,
        pads,
        rhs_dilation=(dilation,) * rank,
        dimension_numbers=dimensions(rank),
        preferred_element_type=dtype,
    )


def dimensions(rank: int) -> lax.ConvDimensionNumbers:
    """The canonical order of so many axes of space: x and y [B, *space, C], w [*window, C, O]."""
    space = tuple(range(1, rank + 1))
    return lax.ConvDimensionNumbers((0, rank + 1, *space), (rank + 1, rank, *range(rank)), (0, rank + 1, *space))


def _convolved(x: Array, w: Array, stride: int, pads: Pads, dilation: int) -> Array:
    """In Winograd's form where it pays."""
    if winograd.pays(x, w, pads, stride, dilation):
        return winograd.correlate(x, w, pads)
    return _correlate(x, w, pads, stride=stride, dilation=dilation)


_reversible = jax.custom_vjp(_convolved, nondiff_argnums=(2, 3, 4))


def _forward(x: Array, w: Array, stride: int, pads: Pads, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    x, w = lax.optimization_barrier((x, w))  # else all kernels are transformed, and kept, before the first is needed
    return _reversible(x, w, stride, pads, dilation), (x, w)


def _backward(stride: int, pads: Pads, dilation: int, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, (w, dy) = saved[0], lax.optimization_barrier((saved[1], dy))
    return _input_gradient(x, w, dy, stride, pads, dilation), _kernel_gradient(x, w, dy, stride, pads, dilation)


_reversible.defvjp(_forward, _backward)


def _input_gradient(x: Array, w: Array, dy: Array, stride: int, pads: Pads, dilation: int) -> Array:
    """dx[p, c] = sum_abo dy[(p + low - a d) / s, o] w[a, b, c, o].

    A convolution of dy, zero-interleaved, with the kernel flipped in space and its channels swapped.
    """
    rank, dx_pads = len(pads), []
    for axis in range(rank):
        reach = (w.shape[axis] - 1) * dilation
        low = reach - pads[axis][0]
        length = (dy.shape[axis + 1] - 1) * stride + 1
        dx_pads.append((low, x.shape[axis + 1] + reach - length - low))
    dx_pads = tuple(dx_pads)
    if winograd.pays(dy, w, dx_pads, stride, dilation):
        return winograd.correlate(dy, w, dx_pads, turned=True)
    flipped = jnp.flip(w, tuple(range(rank))).swapaxes(-1, -2)
    return _correlate(dy, flipped, dx_pads, interior=stride - 1, dilation=dilation)


def _kernel_gradient(x: Array, w: Array, dy: Array, stride: int, pads: Pads, dilation: int) -> Array:
    """dw[a, b, c, o] = sum_nij x[n, i s + a d, j s + b d, c] dy[n, i, j, o].

    A convolution of x, its channels in the place of the batch, with dy as the kernel: stride and dilation change roles.
    With float32 sums.
    """
    if winograd.pays(x, w, pads, stride, dilation):
        return winograd.kernel_gradient(x, w, dy, pads)
    rank, dw_pads = len(pads), []
    for axis in range(rank):
        low = pads[axis][0]
        used = (dy.shape[axis + 1] - 1) * stride + (w.shape[axis] - 1) * dilation + 1
        dw_pads.append((low, used - low - x.shape[axis + 1]))
    space = tuple(range(1, rank + 1))
    rows = x.transpose(rank + 1, *space, 0)
    kernel = dy.transpose(*space, 0, rank + 1)
    dw = _correlate(
        rows,
        kernel,
        tuple(dw_pads),
        stride=dilation,
        dilation=stride,
        dtype=x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.float32,
    )
    return dw.transpose(*space, 0, rank + 1).astype(w.dtype)
