"""Jacobian diagonals against jax's own Jacobian; Hutchinson's estimate exact on an orthogonal set and unbiased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde import divergence

A = jax.random.normal(jax.random.key(1), (6, 6))
KEYS = jax.random.split(jax.random.key(2), 200)


def field(x):
    return jnp.sin(x.reshape(len(x), 6) @ A).reshape(x.shape) * x


@pytest.fixture
def expected():
    x = jax.random.normal(jax.random.key(0), (3, 2, 3))
    jacobian = jax.vmap(jax.jacfwd(lambda y: field(y[None])[0]))(x).reshape(3, 6, 6)
    return x, jnp.diagonal(jacobian, axis1=1, axis2=2).reshape(x.shape)


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_exact(expected, chunk):
    x, diagonal = expected
    value, ours = divergence.exact(field, x, chunk)
    np.testing.assert_allclose(value, field(x), rtol=1e-6)
    np.testing.assert_allclose(ours, diagonal, rtol=1e-4, atol=1e-5)


def test_hutchinson_along_the_axes_is_exact(expected):
    x, diagonal = expected
    axes = jnp.sqrt(6.0) * jnp.eye(6).reshape(6, 1, 2, 3)
    value, ours = divergence.hutchinson(field, x, jnp.broadcast_to(axes, (6, *x.shape)))
    np.testing.assert_allclose(value, field(x), rtol=1e-6)
    np.testing.assert_allclose(ours, diagonal, rtol=1e-4, atol=1e-5)


def test_hutchinson_is_unbiased(expected):
    x, diagonal = expected
    draws = jnp.stack([divergence.hutchinson(field, x, jax.random.normal(k, (1, *x.shape)))[1] for k in KEYS])
    totals = draws.reshape(len(KEYS), -1).sum(1)
    assert abs(totals.mean() - diagonal.sum()) < 4 * totals.std() / np.sqrt(len(KEYS))
