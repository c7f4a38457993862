"""Jacobian diagonals against jax's own Jacobian; Hutchinson's estimate exact on an orthogonal set and unbiased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.scores import divergence

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
    draw = lambda key: divergence.hutchinson(field, x, jax.random.normal(key, (1, *x.shape)))[1]
    draws = jax.jit(jax.vmap(draw))(KEYS)
    totals = draws.reshape(len(KEYS), -1).sum(1)
    assert abs(totals.mean() - diagonal.sum()) < 4 * totals.std() / np.sqrt(len(KEYS))


@pytest.mark.parametrize("method", [divergence.Rademacher(2), divergence.Gaussian(3), divergence.Coloured(4)])
def test_estimates_are_unbiased_and_as_many_as_said(expected, method):
    x, diagonal = expected
    keys = jax.random.split(jax.random.key(4), (500, 3))
    value, draws = jax.jit(jax.vmap(lambda k: method.estimate(k, x)(field, x)))(keys)
    np.testing.assert_allclose(value[0], field(x), rtol=1e-6)
    assert draws.shape == (500, 3, {"Rademacher": 2, "Gaussian": 3, "Coloured": 1}[type(method).__name__])
    error = draws.std(0).max() / np.sqrt(500)
    np.testing.assert_allclose(draws.mean(0) - diagonal.sum((1, 2))[:, None], 0, atol=4 * error)


def test_exact_and_as_many_colours_as_elements(expected):
    x, diagonal = expected
    for method in (divergence.Exact(), divergence.Coloured(8)):
        estimate = method.estimate(KEYS[:3], x)(field, x)[1]
        np.testing.assert_allclose(estimate[:, 0], diagonal.sum((1, 2)), rtol=1e-4, atol=1e-5)


def test_colours_leave_the_couplings_within_them():
    """The variance is 2 sum S_ij^2 over i != j of one colour: for couplings of neighbours alone none is left."""
    shape, places = (4, 4, 2), np.indices((4, 4, 2)).reshape(3, -1)
    apart = np.abs(places[:, :, None] - places[:, None])
    code, codes = divergence.interleaved(shape)
    assert codes == 32 and len(np.unique(code)) == 32
    symmetric = np.random.default_rng(0).normal(size=(32, 32))
    symmetric = jnp.asarray(symmetric + symmetric.T, jnp.float32)
    near = symmetric * jnp.asarray((apart[:2].max(0) < 2) & (apart[2] == 0), jnp.float32)
    x, keys = jnp.zeros((2000, *shape)), jax.random.split(jax.random.key(5), 2000)
    linear = lambda s: lambda y: (y.reshape(-1, 32) @ s).reshape(y.shape)
    estimate = divergence.Coloured(4).estimate(keys, x)
    np.testing.assert_allclose(estimate(linear(near), x)[1], jnp.trace(near), atol=1e-3)
    same = (code.reshape(-1) % 4)[:, None] == (code.reshape(-1) % 4)[None]
    expected = 2 * np.sum(np.asarray(symmetric) ** 2 * (same & ~np.eye(32, dtype=bool)))
    assert float(estimate(linear(symmetric), x)[1].var()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("probes", [0, 3, 16])
def test_colours_that_there_are_not(probes):
    with pytest.raises(UsageError, match=f"probes={probes} is not a power of two up to the 8 colours"):
        divergence.Coloured(probes).estimate(KEYS[:3], jnp.zeros((3, 2, 3)))
