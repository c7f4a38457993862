"""Measurement operators against other libraries, their transposes and singular values against their matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.errors import UsageError
from score_sde.guidance import operators
from score_sde.guidance.measurement import measurement
from score_sde.guidance.operators import Linear

RNG = np.random.default_rng(0)
SHAPE = (6, 4, 3)
X = RNG.standard_normal((2, *SHAPE))

EVERY = {
    "mask": lambda: operators.mask(RNG.random(SHAPE[:2]) < 0.5, SHAPE),
    "mask of a colour": lambda: operators.mask(RNG.random(SHAPE) < 0.5, SHAPE),
    "blur": lambda: operators.blur(np.array([1, 4, 6, 4, 1]) / 16, SHAPE),
    "box": lambda: operators.box(2, SHAPE),
    "bicubic": lambda: operators.bicubic(2, SHAPE),
    "grey": lambda: operators.grey(SHAPE),
    "matrix": lambda: operators.matrix(RNG.standard_normal((5, 72)), SHAPE),
    "wide matrix": lambda: operators.matrix(np.ones((2, 72)), SHAPE),
    "tall matrix": lambda: operators.matrix(RNG.standard_normal((80, 72)), SHAPE),
    "function": lambda: Linear(lambda x: jnp.flip(x, 1)[:, ::2].sum(-1), SHAPE),
}


def dense(A) -> np.ndarray:
    """Its matrix, column by column."""
    basis = jnp.eye(72).reshape(72, *SHAPE)
    return np.asarray(A(basis)).reshape(72, -1).T


@pytest.mark.parametrize("name", EVERY)
def test_transposes(float64, name):
    A = EVERY[name]()
    x, y = jnp.asarray(X), A(jnp.asarray(X))
    w = jnp.asarray(RNG.standard_normal(y.shape))
    np.testing.assert_allclose(jnp.vdot(w, y), jnp.vdot(A.transpose(w), x), rtol=1e-12)
    assert A.transpose(w).shape == x.shape


@pytest.mark.parametrize("name", [name for name in EVERY if name != "function"])
def test_singular_values(float64, name):
    A = EVERY[name]()
    M, spectrum = dense(A), A.spectrum
    values = np.zeros(72)
    own = np.linalg.svd(M, compute_uv=False)
    values[: len(own)] = own[:72]
    np.testing.assert_allclose(np.sort(spectrum.values), np.sort(values), atol=1e-12)
    x, y = jnp.asarray(X), A(jnp.asarray(X))
    np.testing.assert_allclose(spectrum.from_v(spectrum.to_v(x)), x, atol=1e-12)
    np.testing.assert_allclose(spectrum.to_u(y), spectrum.values[None] * spectrum.to_v(x), atol=1e-12)
    np.testing.assert_allclose(spectrum.from_u(spectrum.to_u(y)), y, atol=1e-12)


def test_functions_have_no_singular_values():
    assert EVERY["function"]().spectrum is None


def test_bicubic_is_pillows():
    x = RNG.random((16, 12)).astype(np.float32)
    ours = operators.bicubic(4, (16, 12, 1))(jnp.asarray(x)[None, :, :, None])[0, :, :, 0]
    theirs = np.asarray(Image.fromarray(x).resize((3, 4), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_box_is_the_mean_of_blocks():
    found = operators.box(2, SHAPE)(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(found, X.reshape(2, 3, 2, 2, 2, 3).mean((2, 4)), rtol=1e-4, atol=1e-6)


def test_blur_is_convolution():
    taps = np.array([1.0, 2, 3, 2, 1]) / 9
    x = jnp.asarray(RNG.standard_normal((8, 7)), jnp.float32)
    found = operators.blur(taps, (8, 7, 1))(x[None, :, :, None])[0, :, :, 0]
    expected = jax.scipy.signal.convolve2d(x, jnp.outer(*[jnp.asarray(taps, jnp.float32)] * 2), mode="same")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_grey_values():
    np.testing.assert_allclose(
        operators.grey(SHAPE)(jnp.asarray(X, jnp.float32))[..., 0], X @ [0.299, 0.587, 0.114], atol=1e-5
    )


BAD = {
    "the mask has shape \\(4, 6\\): examples have shape": lambda: operators.mask(np.ones((4, 6)), SHAPE),
    "a mask is of 1": lambda: operators.mask(np.full((6, 4), 0.5), SHAPE),
    "odd number of taps": lambda: operators.blur(np.ones(4), SHAPE),
    "down-sampling by 4 does not fit": lambda: operators.box(4, SHAPE),
    "down-sampling by 1 does not fit": lambda: operators.bicubic(1, SHAPE),
    "grey values are of pictures": lambda: operators.grey((6, 4, 1)),
    "have 72 numbers": lambda: operators.matrix(np.ones((2, 71)), SHAPE),
    "do not fit examples of shape": lambda: operators.separable(np.ones((2, 5)), None, None)(SHAPE),
    "y has shape \\(1, 3, 2\\)": lambda: measurement(operators.box(2, SHAPE), jnp.ones((1, 3, 2)), 0.1, SHAPE),
    "sigma_y=-0.1 must": lambda: measurement(operators.box(2, SHAPE), jnp.ones((1, 3, 2, 3)), -0.1, SHAPE),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(UsageError, match=message):
        BAD[message]()
