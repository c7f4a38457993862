"""The forms for CPU equal the native one; the one for reverse mode is fast inside a loop."""

import re
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from score_sde.networks import winograd
from score_sde.networks.conv import CONVOLUTIONS, convolve
from tests.golden_files import quick_jit, relative_error

CASES = list(product((1, 2), ("SAME", "VALID", ((2, 1), (0, 3))), (1, 2), ((3, 3), (1, 1), (2, 5))))


@pytest.mark.parametrize(("stride", "padding", "dilation", "kernel"), CASES)
def test_gradients_for_cpu_equal_the_native_ones(stride, padding, dilation, kernel) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 12, 3)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(*kernel, 3, 4)), jnp.float32)

    def gradients(x, w, form):
        conv = lambda x, w: convolve(x, w, stride=stride, padding=padding, dilation=dilation, form=form)
        y, pullback = jax.vjp(conv, x, w)
        return (y, *pullback(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)))

    both = quick_jit(lambda x, w: (gradients(x, w, "backwards"), gradients(x, w, "native")))
    for ours, native in zip(*both(x, w), strict=True):
        assert relative_error(ours, native) < 1e-5


def test_for_cpu_it_is_the_plain_convolution_for_explicit_cropping() -> None:
    x, w = jnp.ones((1, 6, 6, 2)), jnp.ones((3, 3, 2, 2))
    cropped = convolve(x, w, padding=((-1, 0), (0, -2)), form="backwards")
    np.testing.assert_array_equal(cropped, convolve(x[:, 1:, :-2], w, padding="VALID"))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_gradient_in_a_loop_contains_only_canonical_convolutions(stride: int, dilation: int) -> None:
    """XLA's CPU backend falls back to a loop nest, tens of times slower, for any other dimension order."""
    x, w = jnp.ones((4, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    loss = lambda w: (convolve(x, w, stride=stride, dilation=dilation, form="backwards") ** 2).sum()
    loop = lambda w: lax.scan(lambda w, _: (w - 0.01 * jax.grad(loss)(w), None), w, None, length=2)[0]
    text = jax.jit(loop).lower(w).compile().as_text()
    layouts = re.findall(r"dim_labels=(\S+?)[,\s]", text)
    assert len(layouts) >= 2
    assert set(layouts) == {"b01f_01io->b01f"}


def test_bfloat16_kernel_gradient_is_summed_in_float32() -> None:
    x, dy = jnp.ones((16, 16, 16, 2), jnp.bfloat16), jnp.ones((16, 16, 16, 2), jnp.bfloat16)
    _, pullback = jax.vjp(lambda w: convolve(x, w, form="backwards"), jnp.ones((3, 3, 2, 2), jnp.bfloat16))
    (dw,) = pullback(dy)
    assert dw.dtype == jnp.bfloat16
    assert float(dw[1, 1, 0, 0]) == 4096


WINOGRAD = {
    "even": ((4, 8, 8, 16), (3, 3, 16, 32), "SAME"),
    "odd": ((6, 9, 11, 32), (3, 3, 32, 16), "SAME"),
    "valid": ((5, 12, 10, 16), (3, 3, 16, 16), "VALID"),
    "cropped": ((3, 9, 9, 16), (3, 3, 16, 16), ((2, 0), (-1, 3))),
}


@pytest.mark.parametrize("block", [winograd.BLOCK, 40_000], ids=["one block", "strips"])
@pytest.mark.parametrize("case", WINOGRAD)
def test_winograds_form_in_float64(case: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and both gradients; by strips of images too, which only large ones need."""
    monkeypatch.setattr(winograd, "BLOCK", block)
    for function in (winograd.correlate, winograd.kernel_gradient):
        function.clear_cache()  # of what was traced with another BLOCK
    x_shape, w_shape, padding = WINOGRAD[case]
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, w = jnp.asarray(rng.normal(size=x_shape)), jnp.asarray(rng.normal(size=w_shape))
        found = {form: partial(convolve, padding=padding, form=form) for form in CONVOLUTIONS}
        y, pullback = jax.vjp(found["native"], x, w)
        dy = jnp.asarray(rng.normal(size=y.shape))
        ours, ours_pullback = jax.vjp(found["backwards"], x, w)
        expected, got = (y, *pullback(dy)), (ours, *ours_pullback(dy))
        for a, b in zip(got, expected, strict=True):
            assert relative_error(a, b) < 1e-13


@pytest.mark.parametrize("channels", [(128, 128), (256, 128)])
def test_winograds_form_rounds_as_a_direct_sum_does(channels: tuple[int, int]) -> None:
    """In float32, against float64: the error of values and gradients is at most twice the native convolution's."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 16, 16, channels[0])), rng.normal(size=(3, 3, *channels))
    dy = rng.normal(size=(2, 16, 16, channels[1]))

    def all_of(form: str, dtype: str) -> list[jax.Array]:
        y, pullback = jax.vjp(partial(convolve, form=form), jnp.asarray(x, dtype), jnp.asarray(w, dtype))
        return [y, *pullback(jnp.asarray(dy, dtype))]

    with jax.enable_x64(True):
        exact = all_of("native", "float64")
        for ours, native, truth in zip(all_of("backwards", "float32"), all_of("native", "float32"), exact, strict=True):
            assert relative_error(ours, truth) < max(2 * relative_error(native, truth), 1e-6)


def test_winograds_form_is_taken_where_it_pays() -> None:
    fits = lambda x, w, dtype="float32": winograd.pays(jnp.zeros(x, dtype), jnp.zeros(w), ((1, 1), (1, 1)), 1, 1)
    assert fits((8, 32, 32, 128), (3, 3, 128, 128))
    assert not fits((8, 32, 32, 128), (3, 3, 128, 128), "bfloat16")
    assert not fits((8, 32, 32, 3), (3, 3, 3, 128))
    assert not fits((1, 4, 4, 256), (3, 3, 256, 256))
