"""NCSN++ against the official code's outputs, and its parameter tree against the published one."""

import dataclasses
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from score_sde.networks import NCSNpp
from tests.golden_files import GOLDEN, load, quick_jit, relative_error, unpack, unpack_flat

GOLDENS = sorted(path.stem for path in (GOLDEN / "song2021").glob("net_ncsnpp_*.npz"))
FIELDS = {field.name for field in dataclasses.fields(NCSNpp)} - {"name", "parent"}
TINY: dict[str, Any] = {"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,)}


def sigma_of(config: dict[str, Any], label: np.ndarray) -> np.ndarray | None:
    """What the official code divides by: the label itself, or its table of descending noise levels."""
    if not config["scale_by_sigma"]:
        return None
    if config["embedding_type"] == "fourier":
        return label
    table = np.exp(np.linspace(np.log(config["sigma_max"]), np.log(config["sigma_min"]), config["num_scales"]))
    return table[label.astype(int)].astype(np.float32)


def golden_case(name: str) -> tuple[NCSNpp, dict[str, Any], tuple]:
    golden = load(name)
    config = json.loads(str(golden["config_json"]))
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key in FIELDS}
    label = golden["time_cond"]
    return NCSNpp(**options), unpack(golden), (golden["x"], label, sigma_of(config, label))


@cache
def tiny(**changes: Any) -> tuple[NCSNpp, Any]:
    """A small network and parameters that make every path contribute to the output."""
    network = NCSNpp(**{**TINY, **changes})
    shapes = jax.eval_shape(network.init, jax.random.key(0), *INPUTS)
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    return network, jax.tree.unflatten(tree, [jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype) for s in leaves])


INPUTS = (jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 3)), jnp.float32), jnp.array([0.1, 1.0, 9.0]))
INPUTS = (*INPUTS, INPUTS[1])


def test_there_are_goldens() -> None:
    assert len(GOLDENS) == 9


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(name: str) -> None:
    network, params, inputs = golden_case(name)
    made = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(np.shape, params)
    assert relative_error(quick_jit(network.apply)(params, *inputs), load(name)["output"]) < 1e-5


DDPMPP = {"fir": False, "embedding_type": "positional", "scale_by_sigma": False}
VE = {"progressive_input": "residual"}
VP = {**VE, "embedding_type": "positional", "scale_by_sigma": False}
LARGE = {"num_res_blocks": 2, "ch_mult": (1, 1, 2, 2, 2, 2, 2), "progressive": "output_skip"}
LARGE = {**LARGE, "progressive_input": "input_skip"}
HUGE = {**LARGE, "nf": 16, "ch_mult": (1, 2, 4, 8, 16, 32, 32, 32), "num_res_blocks": 1}
PUBLISHED = [
    ("ddpmpp", DDPMPP, 32, 61_804_419, 564),
    ("ddpmpp_deep", {**DDPMPP, "num_res_blocks": 8}, 32, 106_632_579, 956),
    ("ve ncsnpp_continuous", VE, 32, 62_758_915, 571),
    ("ncsnpp positional", VP, 32, 62_693_251, 570),
    ("ve deep", {**VE, "num_res_blocks": 8}, 32, 107_587_075, 963),
    ("vp deep ncsnpp", {**VP, "num_res_blocks": 8}, 32, 107_521_411, 962),
    ("bedroom 256", LARGE, 256, 65_574_549, 645),
    ("ffhq 1024", HUGE, 1024, 105_785_896, 553),
]


@pytest.mark.parametrize(("name", "options", "size", "scalars", "leaves"), PUBLISHED)
def test_published_parameter_count(name: str, options: dict[str, Any], size: int, scalars: int, leaves: int) -> None:
    one = jnp.ones(1)
    tree = jax.eval_shape(NCSNpp(**options).init, jax.random.key(0), jnp.zeros((1, size, size, 3)), one, one)
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    assert (sum(math.prod(shape) for shape in shapes), len(shapes)) == (scalars, leaves), name


def test_published_names_of_tiny_config_a() -> None:
    """The published tree of the continuous VE network, at tiny sizes."""
    _, params = tiny(progressive_input="residual")
    leaves = {"/".join(path): leaf.shape for path, leaf in flatten_dict(params["params"]).items()}
    assert (sum(math.prod(shape) for shape in leaves.values()), len(leaves)) == (48_763, 157)
    modules = {path.split("/")[0] for path in leaves}
    assert modules == {
        "GaussianFourierProjection_0", "Dense_0", "Dense_1", "Conv_0", "Conv_1", "GroupNorm_0", "Downsample_0",
        *(f"ResnetBlockBigGANpp_{i}" for i in range(10)), *(f"AttnBlockpp_{i}" for i in range(3)),
    }  # fmt: skip
    block = {path.removeprefix("ResnetBlockBigGANpp_5/"): leaf for path, leaf in leaves.items() if "BigGANpp_5" in path}
    assert {path: shape for path, shape in block.items() if not path.endswith("bias")} == {
        "GroupNorm_0/scale": (32,), "Conv_0/kernel": (3, 3, 32, 16), "Dense_0/kernel": (32, 16),
        "GroupNorm_1/scale": (16,), "Conv_1/kernel": (3, 3, 16, 16), "Conv_2/kernel": (1, 1, 32, 16),
    }  # fmt: skip
    assert leaves["Downsample_0/Conv2d_0/weight"] == (3, 3, 3, 8)


def test_published_names_of_tiny_config_b() -> None:
    """The published tree with output and input skips, at tiny sizes."""
    _, params = tiny(progressive="output_skip", progressive_input="input_skip")
    leaves = {"/".join(path): leaf.shape for path, leaf in flatten_dict(params["params"]).items()}
    assert (sum(math.prod(shape) for shape in leaves.values()), len(leaves)) == (49_038, 161)
    assert leaves["Combine_0/Conv_0/kernel"] == (1, 1, 3, 8)
    assert (leaves["GroupNorm_0/scale"], leaves["Conv_1/kernel"]) == ((16,), (3, 3, 16, 3))
    assert (leaves["GroupNorm_1/scale"], leaves["Conv_2/kernel"]) == ((8,), (3, 3, 8, 3))
    assert not any(path.startswith(("Upsample", "Downsample")) for path in leaves)


def test_published_counters_interleave_main_and_pyramid_resamplers() -> None:
    """In the published trees: pyramid Downsample_1, 3; Upsample_0, 2 in the main path and 1, 3 in the pyramid."""
    options = {"resblock_type": "ddpm", "progressive": "residual", "progressive_input": "residual", "nf": 4}
    network = NCSNpp(**{**TINY, **options, "ch_mult": (1, 2, 3)})
    params = jax.eval_shape(network.init, jax.random.key(0), *INPUTS)["params"]
    inner = {name: params[name]["Conv2d_0"]["weight"].shape[2:] for name in params if "sample" in name}
    assert inner == {
        "Downsample_0": (4, 4), "Downsample_1": (3, 4), "Downsample_2": (8, 8), "Downsample_3": (4, 8),
        "Upsample_0": (12, 12), "Upsample_1": (12, 8), "Upsample_2": (8, 8), "Upsample_3": (8, 4),
    }  # fmt: skip
    assert (params["GroupNorm_0"]["scale"].shape, params["Conv_1"]["kernel"].shape) == ((12,), (3, 3, 12, 12))
    assert (params["GroupNorm_1"]["scale"].shape, params["Conv_2"]["kernel"].shape) == ((4,), (3, 3, 4, 3))


@pytest.mark.parametrize("resblock_type", ["biggan", "ddpm"])
def test_loop_safe_reaches_every_convolution(resblock_type: str) -> None:
    """Outside a custom_vjp no convolution is left in the traced program."""
    options = {"progressive": "residual", "progressive_input": "residual", "resblock_type": resblock_type}
    for safe in (True, False):
        network, params = tiny(**options, loop_safe=safe)
        primitives = [equation.primitive.name for equation in jax.make_jaxpr(network.apply)(params, *INPUTS).eqns]
        assert ("conv_general_dilated" in primitives) != safe
        assert ("custom_vjp_call" in primitives) == safe


def test_loop_safe_changes_no_value_and_no_gradient() -> None:
    network, params = tiny(ch_mult=(1,), attn_resolutions=())

    def loss(params: Any, x: jax.Array, network: NCSNpp) -> jax.Array:
        return jnp.sin(network.apply(params, x, *INPUTS[1:])).sum()  # pyright: ignore[reportAttributeAccessIssue]

    def gradients(x: jax.Array) -> list[Any]:
        both = (network, network.clone(loop_safe=True))
        return [jax.value_and_grad(loss, (0, 1))(params, x, net) for net in both]

    native, safe = quick_jit(gradients)(INPUTS[0])
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(native))
    for ours, theirs in zip(jax.tree.leaves(safe), jax.tree.leaves(native), strict=True):
        assert float(jnp.abs(ours - theirs).max()) < 1e-5 * largest


def test_dropout_of_an_example_depends_on_its_own_key_alone() -> None:
    network, params = tiny(dropout=0.5)
    keys = jax.random.split(jax.random.key(3), 3)
    apply = quick_jit(network.apply)
    together, off = apply(params, *INPUTS, keys), apply(params, *INPUTS)
    order = jnp.array([2, 2, 0])
    shuffled = apply(params, *(v[order] for v in INPUTS), keys[order])
    assert relative_error(shuffled, together[order]) < 1e-6
    assert relative_error(together, off) > 1e-2
    other = apply(params, *INPUTS, jax.random.split(jax.random.key(4), 3))
    assert relative_error(other, together) > 1e-2


def test_bfloat16_computes_close_to_float32_and_returns_float32() -> None:
    network, params = tiny(progressive="output_skip", progressive_input="input_skip")
    y = quick_jit(network.clone(dtype=jnp.bfloat16).apply)(params, *INPUTS)
    assert isinstance(y, jax.Array)
    assert y.dtype == jnp.float32
    assert 1e-5 < relative_error(y, quick_jit(network.apply)(params, *INPUTS)) < 0.1


def test_smoke_rectangular_images() -> None:
    network = NCSNpp(**TINY, **VE)
    x = jnp.zeros((2, 8, 16, 1))
    shape = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), x, jnp.ones(2), jnp.ones(2))[0]).shape
    assert shape == x.shape


def test_golden_trees_are_named_as_recorded() -> None:
    tree = flatten_dict(unpack(load(GOLDENS[0])))
    assert {"/".join(path) for path in tree} == set(unpack_flat(load(GOLDENS[0])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NCSNpp(resblock_type="resnet"), "resblock_type is 'resnet': choose one of biggan, ddpm"),
        (lambda: NCSNpp(progressive="skip"), "progressive is 'skip'"),
        (lambda: NCSNpp(embedding_type="sine"), "embedding_type is 'sine'"),
        (lambda: NCSNpp(nonlinearity="gelu"), "unknown nonlinearity 'gelu'"),
        (lambda: NCSNpp(dropout=1.0), "dropout is 1.0"),
        (lambda: NCSNpp(**TINY).init(jax.random.key(0), *INPUTS[:2]), "pass sigma"),
        (lambda: NCSNpp(**TINY).init(jax.random.key(0), INPUTS[0][:, :7], *INPUTS[1:]), "7x8 cannot be halved 1 times"),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
