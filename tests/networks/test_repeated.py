"""Blocks compiled once, as the body of a loop: the same values, gradients and parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.repeated import runs_of_equals
from tests.golden_files import quick_jit
from tests.networks.drawing import drawn_params
from tests.networks.jaxprs import equations

X = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
INPUTS = (X, jnp.array([0.1, 2.0]), jnp.array([0.1, 2.0]), jax.random.split(jax.random.key(1), 2))
OPTIONS: dict[str, dict[str, Any]] = {
    "levels": {"ch_mult": (1, 2), "attn_resolutions": (), "fir": False},
    "ddpmpp": {"resblock_type": "ddpm", "up_attention": "block"},
    "recomputed": {"remat": "dots", "convolution": "backwards"},
}


def tiny(**options: Any) -> NCSNpp:
    """One level, with attention behind every block, whose blocks are alike: two on the way down, three on that up."""
    own: dict[str, Any] = {"ch_mult": (1,), "attn_resolutions": (4,)}
    return NCSNpp(nf=8, num_res_blocks=2, dropout=0.3, init_scale=1.0, **own | options)


def test_runs_are_of_neighbours() -> None:
    assert runs_of_equals("aabca") == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_loop_changes_no_value_no_gradient_and_no_mask(name: str) -> None:
    """With dropout, so that every block has its own keys; in float64, where rounding is far below."""
    with jax.enable_x64(True):
        network = tiny(**OPTIONS[name], dtype=jnp.float64)
        params = drawn_params(network, *INPUTS)

        def found(params: Any) -> list[Any]:
            loss = lambda params, network: jnp.sin(network.apply(params, *INPUTS)).sum()
            return [jax.value_and_grad(loss)(params, network.clone(scan_blocks=scan)) for scan in (False, True)]

        apart, together = quick_jit(found)(params)
        largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(apart))
        for ours, expected in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
            assert float(jnp.abs(ours - expected).max()) < 1e-6 * largest  # norms and embeddings are of float32


def test_a_loop_has_forward_mode_and_stands_for_the_blocks() -> None:
    """One residual block is traced for those that are alike: on the way down, and on the way up."""
    network = tiny(attn_resolutions=())
    params = drawn_params(network, *INPUTS)
    networks = [network.clone(scan_blocks=scan) for scan in (False, True)]
    applied = [lambda x, network=network: network.apply(params, x, *INPUTS[1:]) for network in networks]
    both = quick_jit(lambda x: [jax.jvp(f, (x,), (jnp.ones_like(x),)) for f in applied])(X)
    for ours, expected in zip(jax.tree.leaves(both[1]), jax.tree.leaves(both[0]), strict=True):
        assert float(jnp.abs(ours - expected).max()) < 1e-4 * float(jnp.abs(expected).max())
    count = [sum(e.primitive.name == "conv_general_dilated" for e in equations(jax.make_jaxpr(f)(X))) for f in applied]
    assert count[1] < count[0]


def test_parameters_are_the_same() -> None:
    shapes = [jax.eval_shape(tiny(scan_blocks=s).init, jax.random.key(0), *INPUTS) for s in (False, True)]
    assert shapes[0] == shapes[1]
