"""NCSNv2 and NCSN against the official code's output and against a network written in NumPy."""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import NCSNv2
from score_sde.networks.refinenet import CRPBlock, MSFBlock, Options, RCUBlock, RefineBlock, ResidualBlock
from tests.golden_files import agree, load, quick_jit, relative_error, unpack
from tests.networks import numpy_networks as oracle
from tests.networks.drawing import applied, drawn_params, leaf_shapes, primitives

X = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 16, 16, 3)), jnp.float32)
LABEL, CLASS = jnp.array([0.4, 2.6, 17.0]), np.array([0, 3, 4])  # rounded and clipped
SIGMA = jnp.array([0.1, 1.0, 9.0])
INPUTS = (X, LABEL, SIGMA)
NCSN = NCSNv2(nf=4, num_classes=5, scale_by_sigma=False, interpolation="nearest_neighbor")
NETWORKS = {"64": NCSNv2(nf=4), "128": NCSNv2(128, nf=4, centered=True), "256": NCSNv2(256, nf=4), "ncsn": NCSN}


@cache
def params_of(name: str) -> Any:
    return drawn_params(NETWORKS[name], *INPUTS)


@cache
def output(name: str) -> np.ndarray:
    network = NETWORKS[name]
    return np.asarray(applied(network)(params_of(name), 2 * X - 1 if network.centered else X, LABEL, SIGMA))


def golden_inputs() -> tuple[np.ndarray, ...]:
    """The official code divides by its table of descending noise levels at the label."""
    golden = load("net_ncsnv2_64")
    config = json.loads(str(golden["config_json"]))
    table = np.exp(np.linspace(np.log(config["sigma_max"]), np.log(config["sigma_min"]), config["num_scales"]))
    return golden["x"], golden["time_cond"], table[golden["time_cond"]].astype(np.float32)


def test_golden() -> None:
    golden, network, inputs = load("net_ncsnv2_64"), NETWORKS["64"], golden_inputs()
    params = unpack(golden)
    made = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(np.shape, params)
    agree(applied(network)(params, *inputs), "net_ncsnv2_64", "output", "networks")


def test_the_oracle_reproduces_the_golden() -> None:
    golden, (x, _, sigma) = load("net_ncsnv2_64"), golden_inputs()
    params, x, sigma = oracle.float64((unpack(golden)["params"], x, sigma))
    assert relative_error(oracle.ncsn(params, x, 64, sigma=sigma), golden["output"]) < 1e-5


@pytest.mark.parametrize("name", ["128", "256"])
def test_larger_layout_is_the_oracle(name: str) -> None:
    params, x, sigma = oracle.float64((params_of(name)["params"], X, SIGMA))
    assert relative_error(output(name), oracle.ncsn(params, x, int(name), sigma=sigma)) < 1e-5


def test_ncsn_is_the_oracle() -> None:
    params, x = oracle.float64((params_of("ncsn")["params"], X))
    assert relative_error(output("ncsn"), oracle.ncsn(params, x, 64, CLASS, bilinear=False)) < 1e-5


CONDITIONAL = Options(num_classes=5)
H = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 4, 8)), jnp.float32)
PAIR = [H, H[:, ::2, ::2, :4]]
BLOCKS: dict[str, tuple[Any, Any, Callable[..., np.ndarray]]] = {
    "same": (ResidualBlock(8, options=CONDITIONAL), H, lambda p, x, y: oracle.residual(p, x, y, False, 1)),
    "wider": (ResidualBlock(12, options=CONDITIONAL), H, lambda p, x, y: oracle.residual(p, x, y, False, 1)),
    "wider, dilated": (
        ResidualBlock(12, dilation=2, options=CONDITIONAL), H, lambda p, x, y: oracle.residual(p, x, y, False, 2)
    ),
    "down": (ResidualBlock(12, True, 1, CONDITIONAL), H, lambda p, x, y: oracle.residual(p, x, y, True, 1)),
    "down, dilated": (ResidualBlock(12, True, 2, CONDITIONAL), H, lambda p, x, y: oracle.residual(p, x, y, True, 2)),
    "rcu": (RCUBlock(8, 2, options=CONDITIONAL), H, lambda p, x, y: oracle.rcu(p, x, y, 2)),
    "crp": (CRPBlock(8, options=CONDITIONAL), H, oracle.crp),
    "msf": (MSFBlock(12, CONDITIONAL), PAIR, oracle.msf),
    "refine": (RefineBlock(12, True, CONDITIONAL), PAIR, lambda p, x, y: oracle.refine(p, x, y, True)),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_conditional_block_is_the_oracle(name: str) -> None:
    block, x, expected = BLOCKS[name]
    params = drawn_params(block, x, jnp.asarray(CLASS))
    y = applied(block)(params, x, jnp.asarray(CLASS))
    assert relative_error(y, expected(*oracle.float64((params["params"], x)), CLASS)) < 1e-5


def test_ncsn_with_equal_rows_is_independent_of_the_label() -> None:
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.broadcast_to(leaf[:1], leaf.shape) if "Embed_0" in str(path) else leaf,
        params_of("ncsn"),
    )
    first = applied(NCSN)(params, *INPUTS)
    np.testing.assert_array_equal(first, applied(NCSN)(params, X, LABEL[::-1], SIGMA))
    assert relative_error(output("ncsn"), applied(NCSN)(params_of("ncsn"), X, LABEL[::-1], SIGMA)) > 1e-2


def test_ncsn_convolutions_are_those_of_ncsnv2_under_conditional_names() -> None:
    plain, conditional = (leaf_shapes(NETWORKS[name], *INPUTS) for name in ("64", "ncsn"))
    plainly = lambda path: re.sub("Cond(itional)?(?=[A-Z])", "", path)
    convolutions = lambda shapes: {plainly(path): s for path, s in shapes.items() if "Conv_" in path}
    assert convolutions(conditional) == convolutions(plain)
    modules = {part.rsplit("_", 1)[0] for path in conditional for part in path.split("/")[:-1]}
    assert modules == {
        "Conv", "ConvMeanPool", "ConditionalResidualBlock", "CondRefineBlock", "CondRCUBlock", "CondMSFBlock",
        "CondCRPBlock", "ConditionalInstanceNorm2dPlus", "Embed",
    }  # fmt: skip
    norm = "ConditionalInstanceNorm2dPlus"
    assert conditional[f"{norm}_0/Embed_0/embedding"] == (5, 12)
    assert conditional[f"ConditionalResidualBlock_3/{norm}_1/Embed_0/embedding"] == (5, 24)
    assert conditional[f"CondRefineBlock_3/CondRCUBlock_2/{norm}_5/Embed_0/embedding"] == (5, 12)
    assert conditional[f"CondRefineBlock_3/CondMSFBlock_0/{norm}_1/Embed_0/embedding"] == (5, 24)
    assert conditional[f"CondRefineBlock_0/CondCRPBlock_0/{norm}_1/Embed_0/embedding"] == (5, 24)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("64", [(2, 2, 2), (2, 2, 2), (1, 2, 1)]),
        ("128", [(4, 4, 2), (2, 2, 2), (2, 2, 1), (1, 1, 1)]),
        ("256", [(4, 4, 2), (2, 2, 2), (2, 2, 2), (2, 2, 1), (1, 1, 1)]),
    ],
)
def test_widths_of_the_layouts(name: str, widths: list[tuple[int, int, int]]) -> None:
    """Both inputs and the output of every refine block but the first, in multiples of nf."""
    shapes = leaf_shapes(NETWORKS[name], *INPUTS)
    for i, (level, before, out) in enumerate(widths, 1):
        for k, width in enumerate((level, before)):
            assert shapes[f"RefineBlock_{i}/MSFBlock_0/Conv_{k}/kernel"] == (3, 3, 4 * width, 4 * out)
    assert f"RefineBlock_{len(widths) + 1}/CRPBlock_0/Conv_0/kernel" not in shapes


def test_label_and_dropout_keys_do_not_reach_ncsnv2() -> None:
    apply = lambda label, keys: NETWORKS["64"].apply(params_of("64"), X, label, SIGMA, keys)
    program = jax.make_jaxpr(apply)(LABEL, jax.random.split(jax.random.key(0), 3)).jaxpr
    assert not [v for equation in program.eqns for v in equation.invars if any(v is w for w in program.invars)]


@pytest.mark.parametrize("name", ["64", "ncsn"])
def test_the_form_reaches_every_convolution_and_nothing_else_is_windowed(name: str) -> None:
    for form in ("backwards", "native"):
        found = primitives(NETWORKS[name].clone(convolution=form), params_of(name), *INPUTS)
        assert ("conv_general_dilated" in found) == (form == "native")
        assert ("custom_vjp_call" in found) == (form == "backwards")
        assert not [primitive for primitive in found if primitive.startswith("reduce_window")]


def test_the_form_changes_no_value_and_no_gradient() -> None:
    block = RefineBlock(4, options=Options())
    xs = [H[..., :4], H[:, ::2, ::2, :4]]
    params = drawn_params(block, xs)

    def gradients(xs: list[jax.Array]) -> list[Any]:
        both = (block, block.clone(options=Options(convolution="backwards")))
        return [jax.value_and_grad(lambda p, xs, b=b: jnp.sin(b.apply(p, xs)).sum(), (0, 1))(params, xs) for b in both]

    native, safe = quick_jit(gradients)(xs)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(native))
    for ours, theirs in zip(jax.tree.leaves(safe), jax.tree.leaves(native), strict=True):
        assert float(jnp.abs(ours - theirs).max()) < 1e-5 * largest


def test_bfloat16_computes_close_to_float32_and_returns_float32() -> None:
    y = applied(NCSN.clone(dtype=jnp.bfloat16))(params_of("ncsn"), *INPUTS)
    assert y.dtype == jnp.float32
    assert 1e-5 < relative_error(y, output("ncsn")) < 0.1


INIT: Callable[..., Any] = lambda network, *inputs: network.init(jax.random.key(0), *inputs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NCSNv2(32), "layout is 32: choose one of 64, 128, 256"),
        (lambda: NCSNv2(interpolation="cubic"), "interpolation is 'cubic': choose one of bilinear, nearest_neighbor"),
        (lambda: NCSNv2(nonlinearity="gelu"), "unknown nonlinearity 'gelu'"),
        (lambda: NCSNv2(num_classes=0), "num_classes is 0"),
        (lambda: INIT(NCSNv2(nf=4), X, LABEL), "pass sigma"),
        (lambda: INIT(NCSNv2(nf=4), X[:, :7], LABEL, SIGMA), "7x16 cannot be halved 1 times, as layout 64 needs"),
        (lambda: INIT(NCSNv2(128, nf=4), X[:, :6], LABEL, SIGMA), "6x16 cannot be halved 2 times"),
        (lambda: INIT(NCSNv2(256, nf=4), X[:, :, :12], LABEL, SIGMA), "16x12 cannot be halved 3 times"),
        (lambda: INIT(ResidualBlock(8, options=CONDITIONAL), H), "conditional on 5 classes: pass label"),
    ],
)
def test_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
