"""What is known of an example: a linear measurement of it with Gaussian noise."""

import dataclasses

import jax
import jax.numpy as jnp

from score_sde.errors import require
from score_sde.guidance.operators import Operator, Spectrum
from score_sde.typing import Array, expand


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Measurement:
    """y = A x_0 + sigma_y n, n standard normal; make one with `measurement`.

    y [B, ...] has one measurement for every example, or one for all [1, ...]. sigma_y [].
    """

    A: Operator
    y: Array
    sigma_y: Array

    def residual(self, x0: Array) -> Array:
        """y - A x_0, [B, ...] of x_0 [B, ...]."""
        return self.y - self.A(x0)

    def log_prob(self, x0: Array) -> Array:
        """-|y - A x_0|^2 / (2 sigma_y^2), which is log p(y | x_0) up to a constant, in nats: [B]."""
        e = self.residual(x0)
        return -0.5 * jnp.sum(e**2, tuple(range(1, e.ndim))) / self.sigma_y**2


def measurement(A: Operator, y: Array, sigma_y: float, shape: tuple[int, ...]) -> Measurement:
    """A checked Measurement of examples of a shape; y [B, ...], or [1, ...] for all.

    Raises UsageError for a y that is no measurement of such examples, and for sigma_y < 0.
    """
    x = jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float))
    expected = jax.eval_shape(A, x).shape[1:]
    require(
        y.ndim == len(expected) + 1 and y.shape[1:] == expected,
        f"y has shape {y.shape}: a measurement of an example of shape {shape} has shape {expected}, so give [N,"
        f" {', '.join(map(str, expected))}]",
    )
    require(sigma_y >= 0, f"sigma_y={sigma_y} must be at least 0: it is the standard deviation of the noise in y")
    return Measurement(A, jnp.asarray(y, float), jnp.asarray(sigma_y, float))


def spectrum_of(measurement: Measurement) -> Spectrum:
    """The singular values of the measurement's operator; UsageError where they are not at hand."""
    found = measurement.A.spectrum
    require(
        found is not None,
        "the operator is a function whose singular values are not known, which this method works in: give it as a mask"
        " or as a matrix, or take MMPS",
    )
    assert found is not None
    return found


def dot(a: Array, b: Array) -> Array:
    """The inner product of every example, [B, ...] and [B, ...] -> [B], in float32 at least."""
    return jnp.sum(a * b, tuple(range(1, a.ndim)))


def times(a: Array, x: Array) -> Array:
    """Every example by its own number: a [B], x [B, ...]."""
    return expand(a, x) * x


def shortened(x: Array, longest: Array | float) -> Array:
    """Every example x [B, ...] made no longer than `longest` [], [1] or [B]."""
    length = jnp.sqrt(dot(x, x))
    return times(jnp.minimum(1, longest / jnp.where(length > 0, length, 1)), x)
