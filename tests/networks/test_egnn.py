"""EGNN: the published networks' numbers, and that it turns, is mirrored and reordered with its input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import EGNN
from tests.golden_files import load, quick_jit, relative_error

TOLERANCE = 1e-12
"""Of float64; a replay in numpy is within 6e-16 (golden/systems/README.md)."""


def golden(group: str) -> dict[str, np.ndarray]:
    return {k.split("__", 1)[1]: v for k, v in load("molecules", "systems").items() if k.startswith(f"{group}__")}


def parameters(g: dict[str, np.ndarray], features: int, nf: int = 8) -> dict[str, Any]:
    """The source's parameters as EGNN has them: torch's kernels are transposed, one layer of pairs is three here.

    The source tells points without features a 1 each, whose weights belong to a bias, and makes an output of the time,
    which is left out.
    """
    layer = lambda name: {
        key: np.asarray(g[f"params/egnn.{name}.{of}"].T)
        for key, of in (("kernel", "weight"), ("bias", "bias"))
        if f"params/egnn.{name}.{of}" in g
    }

    def pairs(name: str) -> dict[str, Any]:
        first = layer(f"{name}.0")
        to, other, distances = np.split(first["kernel"], [nf, 2 * nf])
        parts = {"to": {"kernel": to, "bias": first["bias"]}, "from": {"kernel": other}}
        return {**parts, "distances": {"kernel": distances}, "hidden": layer(f"{name}.2")}

    embedding, out = layer("embedding"), layer("embedding_out")
    if not features:
        embedding = {"kernel": embedding["kernel"][1:], "bias": embedding["bias"] + embedding["kernel"][0]}
    found: dict[str, Any] = {"embedding": embedding}
    if features:
        found["features"] = {"kernel": out["kernel"][:, :features], "bias": out["bias"][:features]}
    blocks = {name.split(".")[1] for name in g if name.startswith("params/egnn.e_block")}
    for block in blocks:
        gcls = sorted({name.split(".")[2] for name in g if f".{block}.gcl_" in name and "equiv" not in name})
        own = {"steps": pairs(f"{block}.gcl_equiv.coord_mlp"), "step": layer(f"{block}.gcl_equiv.coord_mlp.4")}
        for i, gcl in enumerate(gcls):
            own[f"messages_{i}"] = pairs(f"{block}.{gcl}.edge_mlp")
            own |= {f"update_{i}_{k}": layer(f"{block}.{gcl}.node_mlp.{2 * k}") for k in (0, 1)}
            if gate := layer(f"{block}.{gcl}.att_mlp.0"):
                own[f"gate_{i}"] = gate
        found[block.replace("e_", "")] = own
    return {"params": found}


def test_the_network_with_features_and_a_mask_is_the_published_one(float64):
    g = golden("net")
    network = EGNN(3, 8, 2, neighbours=2.0, frequencies=0, dtype=jnp.float64)
    variables, present = parameters(g, 2), {"present": g["node_mask"][..., 0] > 0}
    apply = quick_jit(lambda xh, t: network.apply(variables, xh, t, condition=present))
    t = jnp.asarray(g["t"][:, 0])
    for x, expected in ((g["x"], g["out"]), (g["x"] @ g["rotation"].T, g["out_rotated"])):
        out = apply(jnp.concatenate([x, g["h"]], -1), t)
        assert relative_error(out, expected) < TOLERANCE
    full = {"present": np.broadcast_to(g["node_mask"] > 0, (4, 5, 5))}
    same = network.apply(variables, jnp.concatenate([g["x"], g["h"]], -1), t, condition=full)
    np.testing.assert_allclose(np.asarray(same), g["out"], atol=TOLERANCE)


def test_the_bare_network_is_the_published_one(float64):
    g = golden("bare")
    network = EGNN(
        3,
        8,
        2,
        sublayers=2,
        edge_attention=False,
        coords_range=0.0,
        distance_offset=0.0,
        frequencies=0,
        dtype=jnp.float64,
    )
    variables = parameters(g, 0)
    apply = quick_jit(lambda x: network.apply(variables, x, jnp.asarray(g["t"][:, 0])))
    assert relative_error(apply(g["x"]), g["out"]) < TOLERANCE
    assert relative_error(apply(g["x"][:, g["permutation"]]), g["out_permuted"]) < TOLERANCE


SHAPE = (3, 6, 3 + 2)
"""Of which the points behind the first 6, 5 and 2 are not there."""
PRESENT = np.arange(6)[None] < np.array([[6], [5], [2]])


def drawn(network: EGNN, dtype: Any) -> tuple[Any, Any, Any]:
    """Random parameters, whose last layers are as large as the others, points and labels."""
    r, dimension = np.random.default_rng(0), network.dimension
    x = jnp.asarray(r.normal(size=(*SHAPE[:2], dimension + 2)) * PRESENT[..., None], dtype)
    label = jnp.asarray(r.normal(size=SHAPE[0]), dtype)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, label)
    variables = jax.tree.map(lambda s: jnp.asarray(r.normal(size=s.shape) / max(s.shape[0], 1) ** 0.5, dtype), shapes)
    return variables, x, label


def moved(dimension: int, kind: str) -> np.ndarray:
    """A rotation, or a reflection, [D, D]."""
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(dimension, dimension)))[0]
    wanted = -1 if kind == "reflection" else 1
    return q if np.linalg.det(q) * wanted > 0 else q * np.array([-1.0, *[1.0] * (dimension - 1)])


def differences(apply: Any, x: Any, dimension: int, present: Any) -> dict[str, float]:
    """How far, relative to the largest number, the output of moved points is from the moved output."""
    x, out = np.asarray(x), apply(x, present)
    split = lambda y: (np.asarray(y)[..., :dimension], np.asarray(y)[..., dimension:])
    found, largest = {}, float(np.abs(out).max())
    for kind in ("rotation", "reflection"):
        q = moved(dimension, kind).astype(x.dtype)
        turn = lambda y, q=q: np.concatenate([split(y)[0] @ q, split(y)[1]], -1)
        found[kind] = np.abs(np.asarray(apply(turn(x), present)) - turn(out)).max() / largest
    order = np.array([3, 0, 5, 1, 4, 2])
    found["permutation"] = np.abs(np.asarray(apply(x[:, order], present[:, order])) - out[:, order]).max() / largest
    shifted = x + np.array([*[2.5] * dimension, *[0.0] * (x.shape[-1] - dimension)], x.dtype)
    found["translation"] = np.abs(np.asarray(apply(shifted, present)) - out).max() / largest
    return found


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_output_turns_and_is_reordered_with_the_input_in_float64(float64, dimension):
    network = EGNN(dimension, 16, 2, dtype=jnp.float64)
    variables, x, label = drawn(network, jnp.float64)
    apply = quick_jit(lambda x, present: network.apply(variables, x, label, condition={"present": present}))
    found = differences(apply, x, dimension, PRESENT)
    assert max(found.values()) < 1e-12, found
    assert np.abs(np.asarray(apply(x, PRESENT)).sum(1)[:, :dimension]).max() < 1e-12


def test_the_output_turns_and_is_reordered_with_the_input_in_float32():
    """Of random parameters."""
    network = EGNN(3, 16, 2)
    variables, x, label = drawn(network, jnp.float32)
    apply = quick_jit(lambda x, present: network.apply(variables, x, label, condition={"present": present}))
    found = differences(apply, x, 3, PRESENT)
    assert max(found.values()) < 1e-5, found


def test_points_that_are_absent_change_nothing():
    """The others have the output of the smaller set, to rounding, whatever stands in the absent rows."""
    network = EGNN(3, 16, 2)
    variables, x, label = drawn(network, jnp.float32)
    apply = quick_jit(lambda x, present: network.apply(variables, x, label, condition={"present": present}))
    out = apply(x, PRESENT)
    assert (np.asarray(out)[~PRESENT] == 0).all()
    np.testing.assert_array_equal(apply(jnp.where(PRESENT[..., None], x, 7.0), PRESENT), out)
    fewer = lambda x, label: np.asarray(quick_jit(network.apply)(variables, x, label))
    smaller = fewer(x[1:2, :5], label[1:2])
    np.testing.assert_allclose(out[1:2, :5], smaller, atol=2e-6)
    alone = fewer(x[2:, :1], label[2:])
    assert np.isfinite(alone).all() and (np.asarray(alone)[..., :3] == 0).all()


def test_gradients_are_finite_where_points_meet():
    """The root of a distance of 0 has none."""
    network = EGNN(2, 8, 1)
    variables, x, label = drawn(network, jnp.float32)
    apply = lambda x: jnp.sum(network.apply(variables, x, label) ** 2)  # pyright: ignore[reportOperatorIssue]
    assert np.isfinite(quick_jit(jax.grad(apply))(jnp.zeros_like(x))).all()


def test_bfloat16_is_near_float32():
    network = EGNN(3, 16, 2)
    variables, x, label = drawn(network, jnp.float32)
    wide, narrow = (quick_jit(n.apply)(variables, x, label) for n in (network, network.clone(dtype=jnp.bfloat16)))
    assert narrow.dtype == jnp.float32 and relative_error(narrow, wide) < 0.1
