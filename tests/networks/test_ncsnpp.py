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
from tests.golden_files import GOLDEN, agree, load, quick_jit, relative_error, unpack, unpack_flat
from tests.networks.drawing import applied, drawn_params, leaf_shapes, primitives

GOLDENS = sorted(path.stem for path in (GOLDEN / "song2021").glob("net_ncsnpp_*.npz"))
FIELDS = {field.name for field in dataclasses.fields(NCSNpp)} - {"name", "parent"}
TINY: dict[str, Any] = {"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,)}
SKIPS: dict[str, Any] = {"progressive": "output_skip", "progressive_input": "input_skip"}


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
    network = NCSNpp(**{**TINY, **changes})
    return network, drawn_params(network, *INPUTS)


INPUTS = (jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 3)), jnp.float32), jnp.array([0.1, 1.0, 9.0]))
INPUTS = (*INPUTS, INPUTS[1])


def test_there_are_goldens() -> None:
    assert len(GOLDENS) == 9


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(name: str) -> None:
    network, params, inputs = golden_case(name)
    made = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(np.shape, params)
    agree(quick_jit(network.apply)(params, *inputs), name, "output", "networks")


def test_published_names_of_tiny_config_a() -> None:
    """The published tree of the continuous VE network, at tiny sizes."""
    leaves = leaf_shapes(NCSNpp(**TINY, progressive_input="residual"), *INPUTS)
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
    leaves = leaf_shapes(NCSNpp(**TINY, **SKIPS), *INPUTS)
    assert (sum(math.prod(shape) for shape in leaves.values()), len(leaves)) == (49_038, 161)
    assert leaves["Combine_0/Conv_0/kernel"] == (1, 1, 3, 8)
    assert (leaves["GroupNorm_0/scale"], leaves["Conv_1/kernel"]) == ((16,), (3, 3, 16, 3))
    assert (leaves["GroupNorm_1/scale"], leaves["Conv_2/kernel"]) == ((8,), (3, 3, 8, 3))
    assert not any(path.startswith(("Upsample", "Downsample")) for path in leaves)


def test_published_counters_interleave_main_and_pyramid_resamplers() -> None:
    """In the published trees: pyramid Downsample_1, 3; Upsample_0, 2 in the main path and 1, 3 in the pyramid."""
    options = {"resblock_type": "ddpm", "progressive": "residual", "progressive_input": "residual", "nf": 4}
    shapes = leaf_shapes(NCSNpp(**{**TINY, **options, "ch_mult": (1, 2, 3)}), *INPUTS)
    inner = {path.split("/")[0]: shape[2:] for path, shape in shapes.items() if path.endswith("Conv2d_0/weight")}
    assert inner == {
        "Downsample_0": (4, 4), "Downsample_1": (3, 4), "Downsample_2": (8, 8), "Downsample_3": (4, 8),
        "Upsample_0": (12, 12), "Upsample_1": (12, 8), "Upsample_2": (8, 8), "Upsample_3": (8, 4),
    }  # fmt: skip
    assert (shapes["GroupNorm_0/scale"], shapes["Conv_1/kernel"]) == ((12,), (3, 3, 12, 12))
    assert (shapes["GroupNorm_1/scale"], shapes["Conv_2/kernel"]) == ((4,), (3, 3, 4, 3))


@pytest.mark.parametrize("resblock_type", ["biggan", "ddpm"])
def test_the_form_reaches_every_convolution(resblock_type: str) -> None:
    """Outside a custom_vjp no convolution is left in the traced program."""
    options = {"progressive": "residual", "progressive_input": "residual", "resblock_type": resblock_type}
    for form in ("backwards", "native", "depthwise"):
        network, params = tiny(**options, convolution=form)
        found = primitives(network, params, *INPUTS)
        assert ("conv_general_dilated" in found) == (form != "backwards")
        assert ("custom_vjp_call" in found) == (form == "backwards")


def same(network: NCSNpp, params: Any, other: NCSNpp) -> None:
    """Values and all gradients of both agree to rounding."""

    def loss(params: Any, x: jax.Array, network: NCSNpp) -> jax.Array:
        return jnp.sin(network.apply(params, x, *INPUTS[1:])).sum()  # pyright: ignore[reportAttributeAccessIssue]

    def gradients(x: jax.Array) -> list[Any]:
        return [jax.value_and_grad(loss, (0, 1))(params, x, net) for net in (network, other)]

    native, ours = quick_jit(gradients)(INPUTS[0])
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(native))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(native), strict=True):
        assert float(jnp.abs(a - b).max()) < 1e-5 * largest


def test_the_form_changes_no_value_and_no_gradient() -> None:
    network, params = tiny(ch_mult=(1,), attn_resolutions=())
    same(network, params, network.clone(convolution="backwards"))


@pytest.mark.parametrize("fir", [True, False])
def test_a_tpus_form_changes_no_value_and_no_gradient(fir: bool) -> None:
    """Every kind of resampling: inside of blocks, and with a convolution, as ddpm's is, in the pyramids."""
    options = {"progressive": "residual", "progressive_input": "residual", "fir": fir}
    network, params = tiny(**options, ch_mult=(1, 1), attn_resolutions=())
    same(network, params, network.clone(convolution="depthwise"))


@pytest.mark.parametrize("fir", [True, False])
@pytest.mark.parametrize("resblock_type", ["biggan", "ddpm"])
def test_a_tpus_form_is_a_depthwise_convolution(resblock_type: str, fir: bool) -> None:
    """No slice is left for one."""
    options = {"progressive": "residual", "progressive_input": "residual", "resblock_type": resblock_type, "fir": fir}
    depthwise, params = tiny(**options, ch_mult=(1, 1), convolution="depthwise")
    assert "slice" not in primitives(depthwise, params, *INPUTS)


def test_dropout_of_an_example_depends_on_its_own_key_alone() -> None:
    network, params = tiny(dropout=0.5, ch_mult=(1,), attn_resolutions=())
    keys = jax.random.split(jax.random.key(3), 3)
    apply = applied(network)
    together, off = apply(params, *INPUTS, keys), apply(params, *INPUTS)
    order = jnp.array([2, 2, 0])
    shuffled = apply(params, *(v[order] for v in INPUTS), keys[order])
    assert relative_error(shuffled, together[order]) < 1e-6
    assert relative_error(together, off) > 1e-2
    other = apply(params, *INPUTS, jax.random.split(jax.random.key(4), 3))
    assert relative_error(other, together) > 1e-2


def test_bfloat16_computes_close_to_float32_and_returns_float32() -> None:
    network, params = tiny(**SKIPS)
    y = applied(network.clone(dtype=jnp.bfloat16))(params, *INPUTS)
    assert isinstance(y, jax.Array)
    assert y.dtype == jnp.float32
    assert 1e-5 < relative_error(y, applied(network)(params, *INPUTS)) < 0.1


@pytest.mark.parametrize("progressive", ["none", "output_skip", "residual"])
def test_out_channels_widen_only_what_ends_in_the_output(progressive: str) -> None:
    plain, wide = (leaf_shapes(NCSNpp(**TINY, progressive=progressive, out_channels=c), *INPUTS) for c in (None, 6))
    changed = {path: shape for path, shape in wide.items() if shape != plain[path]}
    kernels = {path: shape for path, shape in changed.items() if path.endswith("kernel")}
    ends = {"none": {"Conv_1": 8}, "output_skip": {"Conv_1": 16, "Conv_2": 8}, "residual": {"Conv_2": 8}}[progressive]
    assert wide.keys() == plain.keys()
    assert len(changed) == 2 * len(kernels)
    assert kernels == {f"{name}/kernel": (3, 3, width, 6) for name, width in ends.items()}


def test_first_output_channels_are_those_of_the_narrower_network() -> None:
    wide, params = tiny(**SKIPS, out_channels=6)
    narrow, ends = dict(params["params"]), ("Conv_1", "Conv_2")
    narrow.update({name: {leaf: v[..., :3] for leaf, v in params["params"][name].items()} for name in ends})
    y = applied(wide)(params, *INPUTS)
    assert y.shape == (*INPUTS[0].shape[:3], 6)
    assert relative_error(y[..., :3], applied(tiny(**SKIPS)[0])({"params": narrow}, *INPUTS)) < 1e-6


def test_smoke_rectangular_images() -> None:
    network = NCSNpp(**TINY, progressive_input="residual")
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
        (lambda: NCSNpp(out_channels=0), "out_channels is 0"),
        (lambda: NCSNpp(family="unet"), "family is 'unet': choose one of ncsnpp, ddpm"),
        (lambda: NCSNpp(**TINY).init(jax.random.key(0), *INPUTS[:2]), "pass sigma"),
        (lambda: NCSNpp(**TINY).init(jax.random.key(0), INPUTS[0][:, :7], *INPUTS[1:]), "7x8 cannot be halved 1 times"),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("embedding_type", ["fourier", "positional"])
def test_labels_of_augmentation_are_added_to_the_embedding(embedding_type: str) -> None:
    """One more matrix, the rest of the tree as ever; no labels stand for zeros, which change nothing."""
    own: dict[str, Any] = {"ch_mult": (1,), "attn_resolutions": (), "embedding_type": embedding_type}
    network, params = tiny(**own, augment_dim=3)
    plain, drawn = tiny(**own)
    more, fewer = (set(flatten_dict(tree["params"])) for tree in (params, drawn))
    assert more - fewer == {("Dense_augment", "kernel")}
    assert fewer < more
    rest = {"params": {name: p for name, p in params["params"].items() if name != "Dense_augment"}}
    without = quick_jit(plain.apply)(rest, *INPUTS)
    run = quick_jit(
        lambda labels: network.apply(params, *INPUTS, condition={} if labels is None else {"augment": labels})
    )
    assert relative_error(run(None), without) < 1e-6
    labels = jnp.zeros((3, 3)).at[1, 2].set(0.5)
    changed = np.abs(np.asarray(run(labels)) - np.asarray(without)).max((1, 2, 3))
    np.testing.assert_array_equal(changed > 1e-4, [False, True, False])
