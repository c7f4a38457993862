"""Pooling by shifted slices against XLA's windowed operations, ties included."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from score_sde.networks.pooling import max_pool, mean_pool
from tests.golden_files import quick_jit, relative_error

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 9, 3)), jnp.float32)
TIES = jnp.round(X)


def windowed(x: jax.Array, initial: float, combine: Callable, size: int) -> jax.Array:
    return lax.reduce_window(x, initial, combine, (1, size, size, 1), (1, 1, 1, 1), "SAME")


NATIVE = {
    max_pool: lambda x, size: windowed(x, -jnp.inf, lax.max, size),
    mean_pool: lambda x, size: windowed(x, 0.0, lax.add, size) / size**2,
}


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("x", [X, TIES], ids=["distinct", "ties"])
@pytest.mark.parametrize("pool", NATIVE, ids=["max", "mean"])
def test_value_and_gradient_are_those_of_the_windowed_operation(pool: Callable, x: jax.Array, size: int) -> None:
    weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    ours = quick_jit(jax.value_and_grad(lambda x: (weights * pool(x, size)).sum()))(x)
    native = quick_jit(jax.value_and_grad(lambda x: (weights * NATIVE[pool](x, size)).sum()))(x)
    assert relative_error(pool(x, size), NATIVE[pool](x, size)) < 1e-6
    for a, b in zip(ours, native, strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize("pool", NATIVE, ids=["max", "mean"])
def test_gradient_is_made_of_slices(pool: Callable) -> None:
    """Windowed operations and scatters are what is slow on CPU."""
    text = str(jax.make_jaxpr(jax.grad(lambda x: pool(x).sum()))(X))
    assert not [slow for slow in ("reduce_window", "scatter", "conv") if slow in text]
