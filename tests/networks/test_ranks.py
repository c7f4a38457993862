"""Convolutions, filters and networks over one, two and three axes of space, and over circles."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks.conv import convolve
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.resampling import downsample, upsample
from tests.golden_files import relative_error

SPACES = {1: (12,), 2: (6, 8), 3: (4, 6, 4)}
FIR = (1, 3, 3, 1)


def example(rank, channels=3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, *SPACES[rank], channels)))


def kernel(rank, features=4):
    return jnp.asarray(np.random.default_rng(1).normal(size=(*[3] * rank, 3, features)))


def direct(x, w, circular=()):
    """sum over taps of shifted x, which is zero or itself outside."""
    rank, total = x.ndim - 2, 0
    pads = [(0, 0), *[(1, 1)] * rank, (0, 0)]
    padded = np.asarray(x)
    for axis, pad in enumerate(pads):
        only = [pad if a == axis else (0, 0) for a in range(x.ndim)]
        padded = np.pad(padded, only, mode="wrap" if axis - 1 in circular else "constant")
    for taps in itertools.product(range(3), repeat=rank):
        part = padded[(slice(None), *(slice(t, t + n) for t, n in zip(taps, x.shape[1:-1])))]
        total = total + part @ np.asarray(w)[taps]
    return total


@pytest.mark.parametrize("circular", [(), (0,)])
@pytest.mark.parametrize("rank", SPACES)
@pytest.mark.parametrize("form", ["native", "backwards"])
def test_convolution_is_the_sum_over_taps(float64, rank, form, circular):
    x, w = example(rank), kernel(rank)
    assert relative_error(convolve(x, w, form=form, circular=circular), direct(x, w, circular)) < 1e-12


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rank", SPACES)
def test_gradients_of_both_forms_are_one(float64, rank, stride):
    x, w = example(rank), kernel(rank)

    def loss(x, w, form):
        return (convolve(x, w, stride=stride, form=form, circular=(rank - 1,)) ** 3).sum()

    for argument in (0, 1):
        ours, theirs = (jax.jit(jax.grad(loss, argument), static_argnums=2)(x, w, f) for f in ("backwards", "native"))
        assert relative_error(ours, theirs) < 1e-12


@pytest.mark.parametrize("resample", [upsample, downsample])
@pytest.mark.parametrize("rank", SPACES)
def test_filters_are_products_of_those_along_axes(float64, rank, resample):
    """Of x = a b c ... the result is the product of what becomes of a, b and c."""
    parts = [jnp.asarray(np.random.default_rng(k).normal(size=(1, n, 1))) for k, n in enumerate(SPACES[rank])]
    shapes = [[1, *(-1 if a == axis else 1 for a in range(rank)), 1] for axis in range(rank)]
    product = lambda vectors: math.prod(jnp.broadcast_arrays(*(v.reshape(s) for v, s in zip(vectors, shapes))))
    assert relative_error(resample(product(parts), FIR), product([resample(part, FIR) for part in parts])) < 1e-12


def network(rank, **options):
    return NCSNpp(
        nf=8, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(min(SPACES[rank]) // 2,), dropout=0.0,
        embedding_type="positional", scale_by_sigma=False, init_scale=1.0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("rank", [1, 3])
def test_a_network_of_any_rank(rank):
    """Its kernels have as many axes; every example is its own; forms agree with their gradients."""
    net, x = network(rank), example(rank).astype(jnp.float32)
    label = jnp.array([0.3, 0.7])
    params = jax.jit(net.init)(jax.random.key(0), x, label)["params"]
    assert params["Conv_0"]["kernel"].shape == (*[3] * rank, 3, 8)

    def loss(params, form):
        y = net.clone(convolution=form).apply({"params": params}, x, label)
        return (y**2).sum(), y

    found = {f: jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)(params, f) for f in FORMS}
    (_, y), gradient = found["native"]
    assert y.shape == x.shape
    swapped = net.apply({"params": params}, x[::-1], label[::-1])
    assert relative_error(swapped[::-1], y) < 1e-5
    for other, own in zip(jax.tree.leaves(found["backwards"][1]), jax.tree.leaves(gradient)):
        np.testing.assert_allclose(other, own, atol=2e-4 * max(1.0, float(np.abs(own).max())))


FORMS = ("native", "backwards")


@pytest.mark.parametrize(("rank", "axis"), [(1, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("options", [{}, {"fir": False, "resblock_type": "ddpm", "progressive_input": "residual"}])
def test_a_circle_has_no_end(rank, axis, options):
    """A shift by the coarsest level's stride is a shift of the output, and none along other axes is."""
    if rank == 3 and options:
        pytest.skip("one of both is enough where compiling is dearest")
    net, x = network(rank, circular=(axis,), **options), example(rank).astype(jnp.float32)
    label = jnp.array([0.3, 0.7])
    params = jax.jit(net.init)(jax.random.key(0), x, label)["params"]
    apply = jax.jit(lambda x: net.apply({"params": params}, x, label))
    y, moved = apply(x), apply(jnp.roll(x, 2, axis + 1))
    assert relative_error(moved, jnp.roll(y, 2, axis + 1)) < 2e-5
    if rank > 1:
        assert relative_error(apply(jnp.roll(x, 2, 1)), jnp.roll(y, 2, 1)) > 1e-2


def test_a_circle_of_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="circular is"):
        jax.eval_shape(network(1, circular=(1,)).init, jax.random.key(0), example(1), jnp.ones(2))
