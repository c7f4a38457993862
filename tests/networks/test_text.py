"""U-Nets that are told a text: what zeros, masks, the order of tokens and how they are computed may not change."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import NCSNpp, ddpm
from score_sde.networks.text import Text
from tests.golden_files import quick_jit
from tests.networks.drawing import drawn_params

TEXT = Text((8,), vocabulary=7, width=8, layers=1, heads=2)
TINY: dict[str, Any] = {"nf": 8, "ch_mult": (1,), "num_res_blocks": 1, "attn_resolutions": (), "dropout": 0.0}
X = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 16, 1)), jnp.float32)
LABEL = jnp.array([0.1, 1.0, 9.0])
TOKENS = jnp.array([[3, 1, 2], [5, 5, 0], [4, 0, 0]], jnp.int32)
MASK = jnp.array([[True, True, True], [True, True, False], [True, False, False]])
TOLD = {"tokens": TOKENS, "mask": MASK}


def call(network: NCSNpp):
    return lambda params, condition: network.apply(params, X, LABEL, LABEL, None, condition)


@pytest.fixture(scope="module")
def told():
    """A network that is told a text, jitted, and parameters without zeros."""
    network = NCSNpp(**TINY, text=TEXT)
    return quick_jit(call(network)), drawn_params(network, X, LABEL, LABEL, None, TOLD)


def test_at_first_it_is_the_network_without_a_text_to_the_bit():
    with jax.disable_jit():
        plain, network = NCSNpp(**TINY), NCSNpp(**TINY, text=TEXT)
        expected, own = plain.init_with_output(jax.random.key(0), X, LABEL, LABEL)
        found, more = network.init_with_output(jax.random.key(0), X, LABEL, LABEL, None, TOLD)
    np.testing.assert_array_equal(found, expected)
    names = set(more["params"]) - set(own["params"])
    assert names == {"text", *(f"SpatialTransformer_{i}" for i in range(4))}  # down, in the middle, two up
    for name in own["params"]:
        jax.tree.map(np.testing.assert_array_equal, more["params"][name], own["params"][name])


def test_what_is_masked_changes_nothing_and_the_rest_does(told):
    apply, params = told
    out = apply(params, TOLD)
    np.testing.assert_array_equal(out, apply(params, {"tokens": jnp.where(MASK, TOKENS, 6), "mask": MASK}))
    np.testing.assert_array_equal(
        apply(params, {"tokens": TOKENS}), apply(params, {"tokens": TOKENS, "mask": jnp.ones_like(MASK)})
    )
    others = np.abs(np.asarray(apply(params, {**TOLD, "tokens": TOKENS.at[1, 1].set(2)}) - out)).max((1, 2, 3))
    assert (others[[0, 2]] == 0).all() and others[1] > 1e-4


def test_an_empty_text_is_a_finite_condition_of_its_own(told):
    apply, params = told
    empty = apply(params, {"tokens": TOKENS, "mask": jnp.zeros_like(MASK)})
    assert np.isfinite(empty).all()
    assert (np.abs(np.asarray(empty - apply(params, TOLD))).max((1, 2, 3)) > 1e-4).all()


def test_without_positions_the_order_of_tokens_changes_nothing(told):
    turned = {"tokens": TOKENS[:, ::-1]}, {"tokens": TOKENS}
    network = NCSNpp(**TINY, text=dataclasses.replace(TEXT, positions=False))
    params = drawn_params(network, X, LABEL, LABEL, None, TOLD)
    apply = quick_jit(call(network))
    one, other = (apply(params, condition) for condition in turned)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(np.abs(one).max()))
    apply, params = told
    one, other = (apply(params, condition) for condition in turned)
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


def test_how_it_is_computed_changes_neither_value_nor_gradient():
    """Two blocks on the way down in one loop, three on that up, each recomputed: it takes both to be in the way."""
    network = NCSNpp(**{**TINY, "num_res_blocks": 2}, text=TEXT)
    params, slopes = drawn_params(network, X, LABEL, LABEL, None, TOLD), []
    for more in ({}, {"scan_blocks": True, "remat": "blocks"}):
        apply = call(network.clone(**more))
        loss = lambda p, apply=apply: (apply(p, TOLD) ** 2).mean()
        slopes.append(quick_jit(jax.value_and_grad(loss))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *slopes)


def test_ddpm_and_rows_of_embeddings():
    rows = jnp.ones((3, 2, 5))
    network = ddpm(nf=32, ch_mult=(1,), num_res_blocks=1, attn_resolutions=(), text=Text((8,), width=8, heads=2))
    params = drawn_params(network, X, LABEL, None, None, {"embeddings": rows})
    apply = quick_jit(lambda condition: network.apply(params, X, LABEL, None, None, condition))
    assert np.abs(apply({"embeddings": rows}) - apply({"embeddings": 2 * rows})).max() > 1e-4
    with pytest.raises(ValueError, match="the network reads embeddings and was given none: pass condition="):
        apply({})
