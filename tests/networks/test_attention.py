"""Attention against NumPy in float64, and when cuDNN computes it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.devices.platform import platform
from score_sde.networks import attention
from score_sde.networks.attention import AttnBlockpp, attend, can_fuse
from tests.golden_files import quick_jit, relative_error

RNG = np.random.default_rng(0)
Q, K, V, DY = (RNG.normal(size=(2, 12, 16)) for _ in range(4))


def exact(q: np.ndarray, k: np.ndarray, v: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, ...]:
    """o, dq, dk and dv by the textbook: w = softmax(q k' / sqrt(C)), o = w v, dl = w (dw - sum dw w)."""
    scale = q.shape[-1] ** -0.5
    logits = scale * np.einsum("bpc,bqc->bpq", q, k)
    w = np.exp(logits - logits.max(-1, keepdims=True))
    w /= w.sum(-1, keepdims=True)
    dw = np.einsum("bpc,bqc->bpq", dy, v)
    dl = scale * w * (dw - (dw * w).sum(-1, keepdims=True))
    return (
        np.einsum("bpq,bqc->bpc", w, v),
        np.einsum("bpq,bqc->bpc", dl, k),
        np.einsum("bpq,bpc->bqc", dl, q),
        np.einsum("bpq,bpc->bqc", w, dy),
    )


def computed(attend: Any, dtype: Any) -> tuple[tuple[jax.Array, ...], tuple[np.ndarray, ...]]:
    """What the function and what NumPy makes of the same inputs, rounded to the dtype."""
    inputs = [jnp.asarray(x).astype(dtype) for x in (Q, K, V, DY)]

    def run(q: jax.Array, k: jax.Array, v: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, pullback = jax.vjp(attend, q, k, v)
        return (y, *pullback(dy))

    return quick_jit(run)(*inputs), exact(*(np.asarray(x, np.float64) for x in inputs))


def library(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return jax.nn.dot_product_attention(q[:, :, None], k[:, :, None], v[:, :, None], implementation="xla")[:, :, 0]


@pytest.mark.parametrize("form", [attend, library])
def test_float32_and_its_gradient(form: Any) -> None:
    for ours, expected in zip(*computed(form, jnp.float32), strict=True):
        assert relative_error(ours, expected) < 2e-6


def test_bfloat16_and_its_gradient() -> None:
    """Within a few units of bfloat16's last place, 2^-8."""
    for ours, expected in zip(*computed(attend, jnp.bfloat16), strict=True):
        assert ours.dtype == jnp.bfloat16
        assert relative_error(ours, expected) < 4 * 2**-8


def test_bfloat16_softmax_is_float32() -> None:
    """Of 4096 equal logits: weights of 1 / 4096 sum to 1, which a sum in bfloat16 misses (it stops at 256)."""
    q, v = jnp.ones((1, 4096, 8), jnp.bfloat16), jnp.full((1, 4096, 8), 3, jnp.bfloat16)
    assert float(quick_jit(attend)(q[:, :1], q, v)[0, 0, 0]) == 3


@pytest.mark.parametrize(
    ("dtype", "channels", "capability", "fuses"),
    [
        (jnp.bfloat16, 256, "9.0", True),
        (jnp.float16, 256, "9.0", True),
        (jnp.bfloat16, 512, "9.0", False),
        (jnp.float32, 128, "9.0", False),
        (jnp.bfloat16, 128, "8.0", True),
        (jnp.bfloat16, 256, "8.6", False),
        (jnp.bfloat16, 256, "10.0", False),
        (jnp.bfloat16, 128, "10.0", True),
        (jnp.bfloat16, 100, "9.0", False),
        (jnp.bfloat16, 64, "7.5", False),
        (jnp.bfloat16, 64, None, False),
    ],
)
def test_what_cudnn_computes(dtype: Any, channels: int, capability: str | None, fuses: bool) -> None:
    assert can_fuse(dtype, channels, capability) == fuses
    assert can_fuse(jnp.dtype(dtype), channels, capability) == fuses


def test_on_a_gpu_that_cannot_the_block_falls_back() -> None:
    x = jnp.ones((1, 4, 4, 8), jnp.bfloat16)
    plain, fused = (AttnBlockpp(dtype=jnp.bfloat16, fused=fused) for fused in (None, "7.5"))
    params = plain.init(jax.random.key(0), x)
    np.testing.assert_array_equal(fused.apply(params, x), plain.apply(params, x))


def test_the_block_takes_the_fused_form_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_fused", lambda q, k, v: 0 * v)
    x = jnp.ones((1, 4, 4, 8), jnp.bfloat16)
    block = AttnBlockpp(dtype=jnp.bfloat16, fused="9.0")
    params = jax.tree.map(jnp.ones_like, block.init(jax.random.key(0), x))
    np.testing.assert_array_equal(block.apply(params, x), x + 1)  # NIN of zero is its bias


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs a GPU")
def test_fused_agrees_on_gpu() -> None:
    if not can_fuse(jnp.bfloat16, Q.shape[-1], platform().capability):
        pytest.skip("not on this GPU")
    for ours, expected in zip(*computed(attention.attend_fused, jnp.bfloat16), strict=True):
        assert relative_error(ours, expected) < 4 * 2**-8
