"""3x3 convolutions by 2.25 times fewer products: Winograd's minimal filtering F(2x2, 3x3), for CPU.

Every 2x2 square y of the output comes from a 4x4 tile d of the input, in one dimension by

    y = A^T [(G w) * (B^T d)],  A^T [2, 4], G [4, 3], B^T [4, 4],

an elementwise product of 4 numbers where the sum over taps takes 6; in two dimensions of 16 where it takes 36. Over all
tiles and channels these are 16 matrix products, between transforms that only add neighbours. In float32 the error is
that of a direct sum, to within a factor of two. Source: Winograd 1980; Lavin & Gray 2016.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from score_sde.typing import Array

Pads = tuple[tuple[int, int], ...]

INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
"""B^T, G and A^T."""

BLOCK = 16 * 2**20
"""Bytes of transformed input and output at a time, which are to stay in the cache."""
TILES, CHANNELS = 32, 16
"""With fewer the transforms cost more than the products that they save."""


def pays(x: Array, w: Array, pads: Pads, stride: int, dilation: int) -> bool:
    """Whether a convolution of x [B, *space, C] with w [*window, C, O] has this form and gains by it."""
    if w.shape[:-2] != (3, 3) or (stride, dilation) != (1, 1) or jnp.finfo(x.dtype).bits < 32:
        return False
    return len(x) * _tiles(x, 0, pads) * _tiles(x, 1, pads) >= TILES and min(w.shape[2:]) >= CHANNELS


@partial(jax.jit, static_argnames=("pads", "turned"))
def correlate(x: Array, w: Array, pads: Pads, turned: bool = False) -> Array:
    """y[i, j, o] = sum_abc x[i + a, j + b, c] w[a, b, c, o] of x padded with zeros, or cropped where a pad is negative.

    x [B, H, W, C], w [3, 3, C, O] -> [B, H', W', O]. turned: w is [3, 3, O, C], and w[2 - a, 2 - b, o, c] in its place,
    as in the gradient.
    """
    grid, w = _Grid.of(x, w, pads), w[::-1, ::-1] if turned else w
    tiles, kernel = grid.tiles(x, pads), _transform(KERNEL, w, _second).reshape(16, *w.shape[2:])
    features = w.shape[2 if turned else 3]

    def convolve(i: Array, y: Array) -> Array:
        # [16, T, C] and [16, C, O], or turned [16, O, C]
        products = lax.dot_general(tiles(i), kernel, (((2,), (2 if turned else 1,)), ((0,), (0,))))
        return grid.put(y, i, products)

    shape = (grid.images, len(x) // grid.images, 2 * grid.rows * grid.strips, 2 * grid.columns, features)
    y = lax.fori_loop(0, grid.blocks, convolve, jnp.zeros(shape, x.dtype))
    height, width = (x.shape[axis + 1] + sum(pads[axis]) - 2 for axis in (0, 1))
    return y.reshape(len(x), *shape[2:])[:, :height, :width]


@partial(jax.jit, static_argnames=("pads",))
def kernel_gradient(x: Array, w: Array, dy: Array, pads: Pads) -> Array:
    """dw[a, b, c, o] = sum_nij x[n, i + a, j + b, c] dy[n, i, j, o] of x padded so: `correlate` transposed in w."""
    grid = _Grid.of(x, w, pads)
    tiles, squares = grid.tiles(x, pads), grid.squares(dy)

    def add(i: Array, total: Array) -> Array:
        return total + lax.dot_general(tiles(i), squares(i), (((1,), (1,)), ((0,), (0,))))

    total = lax.fori_loop(0, grid.blocks, add, jnp.zeros((16, *w.shape[2:]), x.dtype))
    dw = _transform(KERNEL.T, total.reshape(4, 4, *w.shape[2:]), _second)
    return dw.reshape(w.shape)


class _Grid(NamedTuple):
    """How a batch is cut into blocks: each of `images` examples, or of one's strip, with rows x columns tiles each."""

    images: int
    strips: int
    blocks: int
    rows: int
    columns: int

    @classmethod
    def of(cls, x: Array, w: Array, pads: Pads) -> "_Grid":
        rows, columns = (_tiles(x, axis, pads) for axis in (0, 1))
        one = 16 * rows * columns * sum(w.shape[2:]) * x.dtype.itemsize
        strips = min(d for d in _divisors(rows) if d == rows or one <= BLOCK * d)
        images = max(d for d in _divisors(len(x)) if d == 1 or one * d <= BLOCK)
        return cls(images, strips, len(x) // images * strips, rows // strips, columns)

    def tiles(self, x: Array, pads: Pads) -> Callable[[Array], Array]:
        """Block number -> B^T d B of its tiles [16, T, C]."""
        (top, _), (left, _) = pads
        bottom = 2 * self.rows * self.strips + 2 - x.shape[1] - top
        right = 2 * self.columns + 2 - x.shape[2] - left
        block = self._cut(x, ((top, bottom), (left, right)), 2)
        return lambda i: self._transform(INPUT, block(i)).reshape(16, -1, x.shape[3])

    def squares(self, dy: Array) -> Callable[[Array], Array]:
        """Block number -> A y A^T of its squares [16, T, O]."""
        bottom, right = 2 * self.rows * self.strips - dy.shape[1], 2 * self.columns - dy.shape[2]
        block = self._cut(dy, ((0, bottom), (0, right)), 0)
        return lambda i: self._transform(OUTPUT.T, block(i)).reshape(16, -1, dy.shape[3])

    def put(self, y: Array, i: Array, products: Array) -> Array:
        """y [images, B / images, H, W, O] with the squares of a block's products [16, T, O] in their place."""
        tiles = (self.images, self.rows, self.columns, y.shape[-1])
        # [4, images, rows, 2, columns, O] and [images, rows, 2, columns, 2, O]
        half = lax.optimization_barrier(_combined(OUTPUT, products.reshape(4, 4, *tiles), axis=3))
        block = _combined(OUTPUT, half, axis=4).reshape(self.images, 1, 2 * self.rows, *y.shape[3:])
        return lax.dynamic_update_slice(y, block, self._start(i))

    def _cut(self, v: Array, pads: Pads, margin: int) -> Callable[[Array], Array]:
        """Block number -> what is there of the padded v, with a margin of rows below: [images, rows, columns, C].

        A block has every n-th image, so that a batch spread over devices stays where it is.
        """
        pad = lambda v: lax.pad(v, jnp.zeros((), v.dtype), [(0, 0, 0), *((*p, 0) for p in pads), (0, 0, 0)])
        whole = self.strips == 1  # then padded block by block, in one operation with what follows
        v = v if whole else pad(v)
        height = v.shape[1] if whole else 2 * self.rows + margin
        apart = v.reshape(self.images, -1, *v.shape[1:])

        def block(i: Array) -> Array:
            one = lax.dynamic_slice(apart, self._start(i), (self.images, 1, height, *apart.shape[3:]))[:, 0]
            return pad(one) if whole else one

        return block

    def _start(self, i: Array) -> tuple[Array | int, ...]:
        return 0, i // self.strips, i % self.strips * 2 * self.rows, 0, 0

    def _transform(self, matrix: np.ndarray, block: Array) -> Array:
        """matrix d matrix^T of overlapping squares d, two pixels apart: [rows, rows, images, rows, columns, C]."""
        height, width, places = 2 * self.rows - 1, 2 * self.columns - 1, range(matrix.shape[1])
        columns = lambda half: [half[:, :, :, b : b + width : 2] for b in places]
        return _transform(matrix, [block[:, a : a + height : 2] for a in places], columns)


def _transform(matrix: np.ndarray, rows: Iterable[Array], columns: Callable[[Array], list[Array]]) -> Array:
    """matrix square matrix^T: [rows, rows, ...]. rows: those of the square; columns: those of [rows, ...]."""
    # Two operations: in one, every element of the result would compute the sums of the first anew.
    half = lax.optimization_barrier(_combined(matrix, rows, axis=0))
    return _combined(matrix, columns(half), axis=1)


def _second(square: Array) -> list[Array]:
    """The entries of the second axis."""
    return [square[:, b] for b in range(square.shape[1])]


def _combined(matrix: np.ndarray, terms: Iterable[Array], axis: int) -> Array:
    """sum_j matrix[i, j] terms[j], i along a new axis there. By broadcasting: a stack would be copied row by row."""
    shape = lambda term: [-1 if i == axis else 1 for i in range(term.ndim + 1)]
    parts = [
        jnp.asarray(column.reshape(shape(term)), term.dtype) * jnp.expand_dims(term, axis)
        for column, term in zip(matrix.T, terms)
    ]
    return sum(parts[1:], parts[0])


def _tiles(x: Array, axis: int, pads: Pads) -> int:
    """How many squares of two pixels the output has along an axis, the last one perhaps half empty."""
    return (x.shape[axis + 1] + sum(pads[axis]) - 1) // 2


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
