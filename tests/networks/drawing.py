"""Parameters drawn so that every path of a network contributes, and one compilation per network."""

from collections.abc import Callable
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from tests.golden_files import quick_jit


def drawn_params(module: nn.Module, *inputs: Any) -> Any:
    """Normal with standard deviation 1 / sqrt(fan in): kernels keep the scale, nothing is zero."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(value, jnp.float32) for value in values])


@cache
def applied(module: nn.Module) -> Callable[..., Any]:
    """The module's apply, compiled once per session and input shape."""
    return quick_jit(module.apply)


def leaf_shapes(module: nn.Module, *inputs: Any) -> dict[str, tuple[int, ...]]:
    """{"Conv_0/kernel": shape, ...} of the parameters the module would create."""
    tree = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return {"/".join(path): leaf.shape for path, leaf in flatten_dict(tree).items()}


def primitives(module: nn.Module, params: Any, *inputs: Any) -> list[str]:
    """Names of the operations the module is traced to, those inside a custom_vjp not being listed."""
    return [equation.primitive.name for equation in jax.make_jaxpr(module.apply)(params, *inputs).eqns]
