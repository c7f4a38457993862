"""bfloat16 networks: products of bfloat16, sums of float32, as the traced gradient says."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks import NCSNpp, NCSNv2, WideResNet, ddpm
from score_sde.networks.layers import ACTIVATIONS, add_channels
from tests.networks.jaxprs import equations

X, LABEL, KEYS = jnp.zeros((2, 8, 8, 3)), jnp.ones(2), jax.random.split(jax.random.key(0), 2)
U_NET: dict[str, Any] = {"ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,), "dtype": jnp.bfloat16}
PYRAMIDS: dict[str, Any] = {"progressive": "output_skip", "progressive_input": "residual"}
NETWORKS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ncsnpp": (NCSNpp(nf=8, **U_NET, **PYRAMIDS), (LABEL, KEYS)),
    "ncsnpp backwards": (NCSNpp(nf=8, **U_NET, **PYRAMIDS, convolution="backwards"), (LABEL, KEYS)),
    "ddpm": (ddpm(nf=32, **U_NET), (LABEL, KEYS)),
    "ncsnv2": (NCSNv2(nf=4, dtype=jnp.bfloat16), (LABEL,)),
    "ncsn": (NCSNv2(nf=4, num_classes=5, dtype=jnp.bfloat16), (LABEL,)),
    "wideresnet": (WideResNet(1, 1, dtype=jnp.bfloat16), ()),
}
PRODUCTS = ("dot_general", "conv_general_dilated")
SUMS = ("reduce_sum", "reduce_max", "cumsum", "reduce_window_sum")
TRANSCENDENTAL = ("exp", "expm1", "log", "rsqrt", "sqrt", "sin", "cos")
FLOAT32_PRODUCTS = {"ncsnpp": 5, "ncsnpp backwards": 5, "ddpm": 5, "ncsnv2": 0, "ncsn": 0, "wideresnet": 8}
"""Of the embedding of the noise level: forward, by the kernel, and by the input of all but the first layer. The
classifier also has its last layer."""


def operands(equation: Any) -> set[str]:
    return {str(v.aval.dtype) for v in equation.invars}


def summed(equation: Any) -> float:
    """Over how many elements: four where the gradient of repeating a pixel is taken, which bfloat16 may."""
    return equation.invars[0].aval.size / equation.outvars[0].aval.size


def is_bfloat16_product(equation: Any) -> bool:
    """By its operands, or because it is said to round them to bfloat16 first."""
    return operands(equation) == {"bfloat16"} or "BF16_BF16_F32" in str(equation.params.get("precision"))


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_bfloat16_and_sums_float32(name: str) -> None:
    network, rest = NETWORKS[name]
    inputs = (X, LABEL, *rest)
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    loss = lambda p: network.apply(p, *inputs).sum()
    traced = jax.make_jaxpr(jax.value_and_grad(loss))(params)
    kinds = Counter()
    for equation in equations(traced):
        kind = equation.primitive.name
        if kind in PRODUCTS:
            kinds["bfloat16" if is_bfloat16_product(equation) else "float32"] += 1
        assert kind not in TRANSCENDENTAL or "bfloat16" not in operands(equation), equation
        assert kind not in SUMS or "bfloat16" not in operands(equation) or summed(equation) <= 4, equation
    assert kinds["bfloat16"] > 20
    assert kinds["float32"] == FLOAT32_PRODUCTS[name], kinds
    assert {str(v.aval.dtype) for v in traced.jaxpr.outvars} == {"float32"}


def test_elu_of_bfloat16_is_exact_to_its_last_bit() -> None:
    """Near 0 too, where 1 - e^x of 8 bits has none left."""
    x = -jnp.logspace(-3, 2, 50).astype(jnp.bfloat16)
    expected = np.expm1(np.asarray(x, np.float64))
    np.testing.assert_allclose(np.asarray(ACTIVATIONS["elu"](x), np.float64), expected, rtol=2**-8)


def test_the_gradient_of_a_bias_is_summed_in_float32() -> None:
    x = jnp.zeros((16, 16, 16, 2), jnp.bfloat16)
    gradient = jax.grad(lambda v: add_channels(x, v).astype(jnp.float32).sum())(jnp.zeros(2))
    np.testing.assert_array_equal(gradient, 4096)
