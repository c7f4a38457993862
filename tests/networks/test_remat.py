"""Rematerialisation: the same parameters, values and gradients from less memory."""

from collections.abc import Callable
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import NCSNpp, NCSNv2, ddpm
from score_sde.networks.attention import AttnBlockpp
from score_sde.networks.blocks import ResnetBlockBigGANpp
from score_sde.networks.refinenet import CRPBlock, MSFBlock, Options, RCUBlock, ResidualBlock
from score_sde.networks.remat import REMAT, compiler_options, remat
from tests.golden_files import quick_jit, relative_error
from tests.networks.drawing import drawn_params
from tests.networks.jaxprs import equations

X = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 8, 3)), jnp.float32)
INPUTS = (X, jnp.array([0.1, 9.0]), jnp.ones(2))
KEYS = jax.random.split(jax.random.key(3), 2)
U_NET: dict[str, Any] = {"ch_mult": (1,), "num_res_blocks": 1, "attn_resolutions": (8,), "dropout": 0.5}
NETWORKS: dict[str, Any] = {
    "ncsnpp": NCSNpp(nf=8, **U_NET),
    "ddpm": ddpm(nf=32, **U_NET),
    "ncsnv2": NCSNv2(nf=4),
    "ncsn": NCSNv2(nf=4, num_classes=5),
}
BLOCKS = {"ncsnpp": 8, "ddpm": 8, "ncsnv2": 26, "ncsn": 26}
"""Residual blocks and attention; of RefineNets, eight residual blocks, and the eleven RCU, three MSF and four CRP."""
CHOICES = [choice for choice in REMAT if choice != "none"]


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def gradient_in_a_loop(apply: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
    """Loss and gradient of two batches, from within a scan as in training."""

    def loss(params: Any, scale: jax.Array) -> jax.Array:
        return jnp.sin(scale * apply(params, *inputs)).mean()

    return lambda p: jax.lax.scan(lambda _, c: (None, jax.value_and_grad(loss)(p, c)), None, jnp.array([1.0, 2.0]))[1]


class Attended(nn.Module):
    """A residual block that is told a vector, and attention behind it."""

    remat: str
    options: dict[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, keys: jax.Array) -> jax.Array:
        block = remat(ResnetBlockBigGANpp, self.remat)
        h = block(8, dropout=0.5, **self.options, name="block")(x, vector, keys)
        return remat(AttnBlockpp, self.remat)(**self.options, name="attention")(h)


def blocks_alone() -> tuple[Callable[[str], nn.Module], Any]:
    random = np.random.default_rng(2)
    inputs = (jnp.asarray(random.normal(size=size), jnp.float32) for size in ((2, 8, 8, 4), (2, 8)))
    return lambda choice: Attended(choice, {"convolution": "backwards"}), (*inputs, KEYS)


def whole_network() -> tuple[Callable[[str], nn.Module], Any]:
    return lambda choice: NETWORKS["ncsnpp"].clone(dtype=jnp.bfloat16, remat=choice), (*INPUTS, KEYS)


@pytest.mark.parametrize(
    ("made", "tolerance"), [(blocks_alone(), 1e-6), (whole_network(), 2**-8)], ids=["backwards", "bfloat16"]
)
def test_values_and_gradients_are_those_without(made: Any, tolerance: float) -> None:
    """Dropout included: the keys are inputs of a block like any other. bfloat16 has 8 bits, and sums in any order."""
    make, inputs = made
    params = drawn_params(make("none"), *inputs)
    runs = [gradient_in_a_loop(make(choice).apply, *inputs) for choice in REMAT]
    plain, *others = quick_jit(lambda p: [run(p) for run in runs])(params)
    assert np.abs(flat(plain)).max() > 1e-3
    for other in others:
        assert relative_error(other[0], plain[0]) < 1e-6
        assert relative_error(flat(other), flat(plain)) < tolerance


@pytest.mark.parametrize(
    ("block", "fields"),
    [(ResidualBlock, (6, True)), (RCUBlock, (4, 2)), (MSFBlock, (6,)), (CRPBlock, (4,))],
    ids=["residual", "rcu", "msf", "crp"],
)
def test_gradients_of_refinenet_blocks_are_those_without(block: type[nn.Module], fields: tuple[Any, ...]) -> None:
    options, label = Options(num_classes=5, convolution="backwards"), jnp.array([0, 3])
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 8, 8, 4)), jnp.float32)
    inputs = ([x, x[:, ::2, ::2]], label) if block is MSFBlock else (x, label)
    modules = [remat(block, choice)(*fields, options=options) for choice in REMAT]
    params = drawn_params(modules[0], *inputs)
    runs = [gradient_in_a_loop(module.apply, *inputs) for module in modules]
    plain, *others = quick_jit(lambda p: [run(p) for run in runs])(params)
    for other in others:
        assert relative_error(flat(other), flat(plain)) < 1e-6


@cache
def shapes(name: str, choice: str) -> Any:
    return jax.eval_shape(NETWORKS[name].clone(remat=choice).init, jax.random.key(0), *INPUTS)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_keep_their_names(name: str, choice: str) -> None:
    assert shapes(name, choice) == shapes(name, "none")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_block_is_recomputed(name: str) -> None:
    params = shapes(name, "none")
    count = {}
    for choice in ("none", "blocks"):
        traced = jax.make_jaxpr(NETWORKS[name].clone(remat=choice).apply)(params, *INPUTS)
        count[choice] = sum(e.primitive.name == "remat2" for e in equations(traced))
    assert count["blocks"] - count["none"] == BLOCKS[name]  # norms are recomputed always


class Chain(nn.Module):
    """Six residual blocks, one after the other."""

    remat: str

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array) -> jax.Array:
        for i in range(6):
            x = remat(ResnetBlockBigGANpp, self.remat)(dropout=0.5, convolution="backwards", name=f"block_{i}")(
                x, None, keys
            )
        return x


def test_memory_falls_with_less_kept() -> None:
    """By three arrays a block and more without all of it, by a product in most of the blocks without products."""
    x, sizes = jnp.zeros((2, 64, 64, 8)), []
    params = jax.eval_shape(Chain("none").init, jax.random.key(0), x, KEYS)
    options = {"xla_backend_optimization_level": 0, **(compiler_options(jax.default_backend()) or {})}
    for choice in REMAT:
        run = jax.jit(gradient_in_a_loop(Chain(choice).apply, x, KEYS), compiler_options=options)
        sizes.append(run.lower(params).compile().memory_analysis().temp_size_in_bytes / x.nbytes)
    none, dots, blocks = sizes
    assert none > dots + 3 * 6 and dots > blocks + 3, sizes


@pytest.mark.parametrize("name", ["ncsnpp", "ncsnv2"])
def test_unknown_choice(name: str) -> None:
    with pytest.raises(ValueError, match="remat is 'all': choose one of none, dots, blocks"):
        NETWORKS[name].clone(remat="all")
    with pytest.raises(ValueError, match="remat is 'all': choose one of none, dots, blocks"):
        remat(ResidualBlock, "all")
