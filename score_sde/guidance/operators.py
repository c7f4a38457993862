"""Linear measurement operators A on examples, with their transpose and, where it is cheap, their singular values.

A mask is diagonal; blurs, means of blocks, bicubic down-sampling and grey values are small matrices, one for an axis
(a Kronecker product, whose singular value decomposition is that of its factors); any matrix acts on flattened examples.
Of any other linear function there is the transpose alone.
"""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.errors import require
from score_sde.typing import Array

GREY = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in a grey value (ITU-R BT.601)."""


class Spectrum(NamedTuple):
    """A = U diag(d) V^T: d >= 0 [D], 0 where A sees nothing, and the maps to and from the coordinates of U and V.

    to_v: V^T x, [B, ...] -> [B, D]. from_v: V, its inverse. to_u: U^T y, [B, ...] -> [B, D], 0 where d is 0. from_u: U.
    """

    values: Array
    to_v: Callable[[Array], Array]
    from_v: Callable[[Array], Array]
    to_u: Callable[[Array], Array]
    from_u: Callable[[Array], Array]


class Operator(abc.ABC):
    """A linear map of examples x [B, ...] to measurements y [B, ...], each example alone."""

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """A x."""

    @abc.abstractmethod
    def transpose(self, y: Array) -> Array:
        """A^T y."""

    @abc.abstractmethod
    def scaled(self, channels: np.ndarray) -> "Operator":
        """A diag(channels): of examples in a unit of their own for each entry of the last axis, all positive."""

    @property
    def spectrum(self) -> Spectrum | None:
        """Its singular value decomposition, where that is cheap."""
        return None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask(Operator):
    """x where the mask is 1, 0 where it is 0: mask [...] of an example's shape; of another number, that times x."""

    mask: Array

    def __call__(self, x: Array) -> Array:
        return x * self.mask[None].astype(x.dtype)

    def transpose(self, y: Array) -> Array:
        return self(y)

    def scaled(self, channels: np.ndarray) -> "Mask":
        return Mask(self.mask * jnp.asarray(channels, self.mask.dtype).reshape((1,) * (self.mask.ndim - 1) + (-1,)))

    @property
    def spectrum(self) -> Spectrum:
        flat = lambda x: x.reshape(len(x), -1)
        back = lambda v: v.reshape(len(v), *self.mask.shape)
        seen = lambda y: y * (self.mask > 0)[None].astype(y.dtype)
        return Spectrum(
            self.mask.reshape(-1).astype(float), flat, back, lambda y: flat(seen(y)), lambda v: seen(back(v))
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factor:
    """A matrix [m, n] = U diag(d) V^T with U [m, n], whose columns are 0 where d is 0, d [n] and V [n, n]."""

    matrix: Array
    U: Array
    d: Array
    V: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Separable(Operator):
    """One matrix along every axis of an example, None for an axis that stays as it is; make one with `separable`."""

    factors: tuple[Factor | None, ...]
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        return self._along(x, lambda f: f.matrix)

    def transpose(self, y: Array) -> Array:
        return self._along(y, lambda f: f.matrix.T)

    def scaled(self, channels: np.ndarray) -> "Separable":
        last, units = self.factors[-1], np.diag(np.broadcast_to(channels, self.shape[-1:]))
        joined = units if last is None else np.asarray(last.matrix) @ units
        return Separable((*self.factors[:-1], _factor(joined)), self.shape)

    @property
    def spectrum(self) -> Spectrum:
        values = jnp.ones(())
        for factor, size in zip(self.factors, self.shape, strict=True):
            d = jnp.ones(size) if factor is None else factor.d
            values = values[..., None] * jnp.expand_dims(d, tuple(range(values.ndim)))
        flat = lambda x: x.reshape(len(x), -1)
        return Spectrum(
            values.reshape(-1),
            lambda x: flat(self._along(x, lambda f: f.V.T)),
            lambda v: self._along(v.reshape(len(v), *self.shape), lambda f: f.V),
            lambda y: flat(self._along(y, lambda f: f.U.T)),
            lambda v: self._along(v.reshape(len(v), *self.shape), lambda f: f.U),
        )

    def _along(self, x: Array, matrix: Callable[[Factor], Array]) -> Array:
        """Every axis multiplied by its factor's matrix, in the highest precision."""
        for axis, factor in enumerate(self.factors, 1):
            if factor is not None:
                x = jnp.moveaxis(jnp.tensordot(x, matrix(factor), (axis, 1), precision="highest"), -1, axis)
        return x


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flattened(Operator):
    """A matrix [M, D] on examples of the shape, flattened, to measurements [B, M]; make one with `matrix`."""

    inner: Separable
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        return self.inner(x.reshape(len(x), -1))

    def transpose(self, y: Array) -> Array:
        return self.inner.transpose(y).reshape(len(y), *self.shape)

    def scaled(self, channels: np.ndarray) -> "Flattened":
        units = np.broadcast_to(channels, self.shape).reshape(-1)
        return Flattened(self.inner.scaled(units), self.shape)

    @property
    def spectrum(self) -> Spectrum:
        found = self.inner.spectrum
        return found._replace(
            to_v=lambda x: found.to_v(x.reshape(len(x), -1)),
            from_v=lambda v: found.from_v(v).reshape(len(v), *self.shape),
        )


@dataclasses.dataclass(frozen=True)
class Linear(Operator):
    """Any linear function of examples [B, ...] of this shape, each alone; its transpose is found by jax."""

    function: Callable[[Array], Array]
    shape: tuple[int, ...]

    def __call__(self, x: Array) -> Array:
        return self.function(x)

    def transpose(self, y: Array) -> Array:
        x = jax.ShapeDtypeStruct((len(y), *self.shape), y.dtype)
        return jax.linear_transpose(self.function, x)(y)[0]

    def scaled(self, channels: np.ndarray) -> "Linear":
        units = jnp.asarray(channels).reshape((1,) * len(self.shape) + (-1,))
        return Linear(lambda x: self.function(x * units.astype(x.dtype)), self.shape)


def separable(*matrices: np.ndarray | None) -> Callable[[tuple[int, ...]], Separable]:
    """The operator of one matrix [m, n] along every axis of length n, None for the axes that stay, by the shape.

    UsageError where they do not fit an example.
    """

    def of(shape: tuple[int, ...]) -> Separable:
        require(
            len(matrices) == len(shape) and all(m is None or m.shape[1] == n for m, n in zip(matrices, shape)),
            f"matrices of shapes {[None if m is None else m.shape for m in matrices]} do not fit examples of shape"
            f" {shape}: give one [m, n] for every axis of length n, or None",
        )
        return Separable(tuple(None if m is None else _factor(m) for m in matrices), shape)

    return of


def matrix(A: np.ndarray, shape: tuple[int, ...]) -> Flattened:
    """The operator of A [M, D] on examples of a shape with D numbers; UsageError for another D."""
    size = math.prod(shape)
    require(
        A.ndim == 2 and A.shape[1] == size,
        f"the matrix has shape {A.shape}: examples of shape {shape} have {size} numbers, so give [M, {size}]",
    )
    return Flattened(separable(A)((size,)), shape)


def mask(known: np.ndarray, shape: tuple[int, ...]) -> Mask:
    """The operator that keeps what is known: 1 or True there, 0 elsewhere, [H, W], or of the example's shape.

    UsageError for another shape and other numbers.
    """
    known = np.asarray(known)
    pixels = shape[:2] if len(shape) == 3 else shape
    require(
        known.shape in (shape, pixels),
        f"the mask has shape {known.shape}: examples have shape {shape}, so give a mask of shape {pixels}",
    )
    require(bool(np.isin(known, (0, 1)).all()), "a mask is of 1, what is known, and 0, what is to be found")
    full = known if known.shape == shape else np.broadcast_to(known[..., None], shape)
    return Mask(jnp.asarray(full.astype(np.float32)))


def blur(taps: np.ndarray, shape: tuple[int, ...]) -> Separable:
    """Convolution along height and width with one odd filter of taps, zeros around the picture: as many pixels."""
    taps = np.asarray(taps, np.float64)
    require(taps.ndim == 1 and len(taps) % 2 == 1, f"a blur has an odd number of taps, not an array of {taps.shape}")
    return separable(*(_convolution(taps, n) for n in shape[:2]), *(None for _ in shape[2:]))(shape)


def box(factor: int, shape: tuple[int, ...]) -> Separable:
    """Means of blocks of factor x factor pixels; UsageError where the blocks do not fill the picture."""
    _divides(factor, shape)
    rows = [np.kron(np.eye(n // factor), np.full((1, factor), 1 / factor)) for n in shape[:2]]
    return separable(*rows, *(None for _ in shape[2:]))(shape)


def bicubic(factor: int, shape: tuple[int, ...]) -> Separable:
    """Down-sampling by Keys' cubic (a = -0.5) widened to the factor, as jax.image.resize and Pillow do it.

    Source: Keys 1981. UsageError where the factor does not divide the picture.
    """
    _divides(factor, shape)
    rows = [np.asarray(jax.image.resize(jnp.eye(n), (n // factor, n), "cubic")) for n in shape[:2]]
    return separable(*rows, *(None for _ in shape[2:]))(shape)


def grey(shape: tuple[int, ...]) -> Separable:
    """The grey values [H, W, 1] of colour pictures [H, W, 3]; UsageError for others."""
    require(len(shape) == 3 and shape[2] == 3, f"grey values are of pictures [H, W, 3], not of shape {shape}")
    return separable(None, None, np.array([GREY]))(shape)


def _factor(A: np.ndarray) -> Factor:
    A = np.asarray(A, np.float64)
    m, n = A.shape
    U, d, Vt = np.linalg.svd(A)
    rank = int((d > d.max(initial=0) * max(m, n) * np.finfo(np.float64).eps).sum())
    columns, values = np.zeros((m, n)), np.zeros(n)
    columns[:, :rank], values[:rank] = U[:, :rank], d[:rank]
    return Factor(*(jnp.asarray(a, float) for a in (A, columns, values, Vt.T)))


def _convolution(taps: np.ndarray, n: int) -> np.ndarray:
    half = len(taps) // 2
    return sum((tap * np.eye(n, k=k - half) for k, tap in enumerate(taps)), np.zeros((n, n)))


def _divides(factor: int, shape: tuple[int, ...]) -> None:
    require(
        len(shape) >= 2 and factor >= 2 and all(n % factor == 0 for n in shape[:2]),
        f"down-sampling by {factor} does not fit examples of shape {shape}: take a factor of height and width",
    )
