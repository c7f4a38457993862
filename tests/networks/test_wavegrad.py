"""WaveGrad's blocks against an independent port of the paper in float64, and the network as a whole."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import WaveGrad
from score_sde.networks.wavegrad import LONG, DBlock, FiLM, UBlock, level_encoding
from tests.golden_files import agree, load, quick_jit
from tests.networks.drawing import drawn_params

NAMES = {
    "film": {"input_conv": "input_conv", "output_conv": "output_conv"},
    "dblock": {"residual_dense": "residual", "conv.0": "conv_0", "conv.1": "conv_1", "conv.2": "conv_2"},
    "ublock": {
        "block1": "residual",
        "block2.0": "conv_0",
        "block2.1": "conv_1",
        "block3.0": "conv_2",
        "block3.1": "conv_3",
    },
}
"""Theirs and ours, by block."""
SMALL = {"factors": (3, 2), "up_widths": (8, 4), "down_widths": (4, 8), "frames_width": 8, "long_blocks": 1}


@pytest.fixture
def wide(float64):
    """float64, under the promotion that asks for the wider of it and float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def params(group: str) -> dict:
    """A block's parameters with kernels [k, in, out]."""
    arrays = load("wavegrad", "systems")
    theirs = lambda name, leaf: jnp.asarray(arrays[f"{group}__params/{name}.{leaf}"])
    own = {
        o: {"kernel": theirs(n, "weight").transpose(2, 1, 0), "bias": theirs(n, "bias")}
        for n, o in NAMES[group].items()
    }
    return {"params": own}


def given(group: str, *names: str) -> list[jax.Array]:
    """Arrays, waveforms as [B, L, C]."""
    found = [jnp.asarray(load("wavegrad", "systems")[f"{group}__{name}"]) for name in names]
    return [x.transpose(0, 2, 1) if x.ndim == 3 else x for x in found]


def compare(ours: Any, key: str) -> None:
    agree(ours.transpose(0, 2, 1) if ours.ndim == 3 else ours, "wavegrad", key, "latent", folder="systems")


def test_the_encoding_is_the_ports_without_the_papers_factor(wide):
    (level,) = given("encoding", "level")
    compare(level_encoding(level, 8, scale=1.0), "encoding__out")
    np.testing.assert_allclose(level_encoding(level, 8), level_encoding(5000 * level, 8, scale=1.0), atol=1e-12)


def test_film(wide):
    x, level = given("film", "x", "level")
    shift, scale = FiLM(4, level_scale=1.0, dtype=jnp.float64).apply(params("film"), x, level)
    compare(shift, "film__shift")
    compare(scale, "film__scale")


def test_d_block(wide):
    (x,) = given("dblock", "x")
    compare(DBlock(6, 2, dtype=jnp.float64).apply(params("dblock"), x), "dblock__out")


def test_u_block(wide):
    x, shift, scale = given("ublock", "x", "shift", "scale")
    compare(UBlock(4, 3, LONG, dtype=jnp.float64).apply(params("ublock"), x, shift, scale), "ublock__out")


@pytest.fixture(scope="module")
def small():
    """A network, parameters, x [3, 24, 2], levels and frames [3, 4, 5], and what it makes of them."""
    network, keys = WaveGrad(**SMALL), jax.random.split(jax.random.key(0), 3)
    x, frames = jax.random.normal(keys[0], (3, 24, 2)), jax.random.normal(keys[1], (3, 4, 5))
    level = jnp.array([0.1, 0.5, 0.9])
    tree = drawn_params(network, x, level, None, None, {"frames": frames})
    apply = quick_jit(lambda p, x, level, frames: network.apply(p, x, level, None, None, {"frames": frames}))
    return network, tree, x, level, frames, apply, apply(tree, x, level, frames)


def test_an_example_depends_on_itself_alone_and_on_all_that_it_is_told(small):
    _, tree, x, level, frames, apply, out = small
    assert out.shape == x.shape and out.dtype == jnp.float32
    np.testing.assert_allclose(apply(tree, x[1:2], level[1:2], frames[1:2]), out[1:2], atol=1e-5)
    for other in ((x + 1, level, frames), (x, level + 0.01, frames), (x, level, frames + 1)):
        assert float(jnp.abs(apply(tree, *other) - out).max()) > 1e-3


def test_the_default_has_the_publisheds_convolutions():
    """Counted by hand: the frames' and the last, five U-blocks, the waveform's and four D-blocks, five of FiLM."""
    own = jax.eval_shape(
        WaveGrad().init, jax.random.key(0), jnp.zeros((1, 600, 1)), jnp.ones(1), None, None,
        {"frames": jnp.zeros((1, 2, 128))},
    )["params"]  # fmt: skip
    conv = lambda i, o, k: i * o * k + o
    total = conv(128, 768, 3) + conv(128, 1, 3) + conv(1, 32, 5)
    for i, o in ((768, 512), (512, 512), (512, 256), (256, 128), (128, 128)):
        total += conv(i, o, 1) + conv(i, o, 3) + 3 * conv(o, o, 3)
    for i, o in ((32, 128), (128, 128), (128, 256), (256, 512)):
        total += conv(i, o, 1) + conv(i, o, 3) + 2 * conv(o, o, 3)
    for i, o in ((32, 128), (128, 128), (128, 256), (256, 512), (512, 512)):
        total += conv(i, i, 3) + conv(i, 2 * o, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(own)) == total == 15_920_993


def test_without_frames_it_is_told_nothing_else(small):
    network, _, x, level, *_ = small
    tree = network.init(jax.random.key(0), x, level)
    assert tree["params"]["first"]["kernel"].shape == (3, 1, 8)
    flat, one = network.init(jax.random.key(0), x[..., 0], level), network.init(jax.random.key(0), x[..., :1], level)
    jax.tree.map(np.testing.assert_array_equal, flat, one)
    np.testing.assert_array_equal(network.apply(flat, x[..., 0], level), network.apply(one, x[..., :1], level)[..., 0])


def test_lengths_and_blocks_that_do_not_fit_are_named(small):
    network, tree, x, level, frames, *_ = small
    with pytest.raises(ValueError, match=r"give \[B, T' 6, C\] and \[B, T', M\], as factors \(3, 2\) ask"):
        network.apply(tree, x, level, None, None, {"frames": frames[:, :3]})
    with pytest.raises(ValueError, match="one entry per block each"):
        WaveGrad(factors=(2,), up_widths=(8, 8), down_widths=(8,))
