"""Parameter counts of the full-size networks that no config has (tests/test_zoo.py); nothing is initialised."""

import math

import flax.linen as nn
import jax.numpy as jnp
import pytest

from score_sde.networks import NCSNv2, WideResNet
from tests.networks.drawing import leaf_shapes

PUBLISHED: list[tuple[str, nn.Module, int, int, int]] = [
    ("ncsnv2 256", NCSNv2(256), 256, 94_132_611, 229),
    ("classifier", WideResNet(), 32, 38_913_242, 106),
]


@pytest.mark.parametrize(
    ("network", "size", "scalars", "leaves"), [row[1:] for row in PUBLISHED], ids=[row[0] for row in PUBLISHED]
)
def test_parameter_count(network: nn.Module, size: int, scalars: int, leaves: int) -> None:
    x, one = jnp.zeros((1, size, size, 3)), jnp.ones(1)
    shapes = leaf_shapes(network, x, one) if isinstance(network, WideResNet) else leaf_shapes(network, x, one, one)
    assert (sum(math.prod(shape) for shape in shapes.values()), len(shapes)) == (scalars, leaves)
