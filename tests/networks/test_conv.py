"""The loop-safe convolution equals the native one, and compiles to convolutions that are fast inside a loop."""

import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from score_sde.networks.conv import conv2d
from tests.golden_files import quick_jit, relative_error

CASES = list(product((1, 2), ("SAME", "VALID", ((2, 1), (0, 3))), (1, 2), ((3, 3), (1, 1), (2, 5))))


@pytest.mark.parametrize(("stride", "padding", "dilation", "kernel"), CASES)
def test_loop_safe_gradients_equal_the_native_ones(stride, padding, dilation, kernel) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 12, 3)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(*kernel, 3, 4)), jnp.float32)

    def gradients(x, w, loop_safe):
        conv = lambda x, w: conv2d(x, w, stride=stride, padding=padding, dilation=dilation, loop_safe=loop_safe)
        y, pullback = jax.vjp(conv, x, w)
        return (y, *pullback(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)))

    both = quick_jit(lambda x, w: (gradients(x, w, True), gradients(x, w, False)))
    for ours, native in zip(*both(x, w), strict=True):
        assert relative_error(ours, native) < 1e-5


def test_loop_safe_is_the_plain_convolution_for_explicit_cropping() -> None:
    x, w = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 2))
    cropped = conv2d(x, w, padding=((-1, 0), (0, -2)), loop_safe=True)
    np.testing.assert_array_equal(cropped, conv2d(x[:, 1:, :-2], w, padding="VALID"))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_gradient_in_a_loop_contains_only_canonical_convolutions(stride: int, dilation: int) -> None:
    """XLA's CPU backend falls back to a loop nest, tens of times slower, for any other dimension order."""
    x, w = jnp.ones((4, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    loss = lambda w: (conv2d(x, w, stride=stride, dilation=dilation, loop_safe=True) ** 2).sum()
    loop = lambda w: lax.scan(lambda w, _: (w - 0.01 * jax.grad(loss)(w), None), w, None, length=2)[0]
    text = jax.jit(loop).lower(w).compile().as_text()
    layouts = re.findall(r"dim_labels=(\S+?)[,\s]", text)
    assert len(layouts) >= 2
    assert set(layouts) == {"b01f_01io->b01f"}


def test_bfloat16_kernel_gradient_is_summed_in_float32() -> None:
    x, dy = jnp.ones((16, 16, 16, 2), jnp.bfloat16), jnp.ones((16, 16, 16, 2), jnp.bfloat16)
    _, pullback = jax.vjp(lambda w: conv2d(x, w, loop_safe=True), jnp.ones((3, 3, 2, 2), jnp.bfloat16))
    (dw,) = pullback(dy)
    assert dw.dtype == jnp.bfloat16
    assert float(dw[1, 1, 0, 0]) == 4096
