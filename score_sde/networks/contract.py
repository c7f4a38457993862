"""What every score network does with its examples and its sigma: checks, the range of the input, the 1 / sigma."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from score_sde.networks.layers import Dtype
from score_sde.typing import Array, expand


def check_choices(network: Any, choices: Mapping[str, Iterable[Any]]) -> None:
    """ValueError unless every field of these names is among its choices."""
    for name, words in choices.items():
        if getattr(network, name) not in words:
            raise ValueError(f"{name} is {getattr(network, name)!r}: choose one of {', '.join(map(str, words))}")


def check_halvings(x: Array, times: int, remedy: str) -> None:
    """ValueError, ending in `remedy`, unless every side of x [B, *space, C] can be halved that many times."""
    space = x.shape[1:-1]
    if any(side % 2**times for side in space):
        sides = "x".join(map(str, space))
        raise ValueError(
            f"{'images' if len(space) == 2 else 'examples'} of {sides} cannot be halved {times} times, {remedy}"
        )


def check_circular(x: Array, circular: tuple[int, ...]) -> None:
    """ValueError unless x [B, *space, C] has an axis of space of every such number, counted from 0."""
    if not set(circular) <= set(range(x.ndim - 2)):
        raise ValueError(f"circular is {circular}: examples of {x.ndim - 2} axes of space have 0 to {x.ndim - 3}")


def check_sigma(scale_by_sigma: bool, sigma: Array | None) -> None:
    """ValueError if the output is to be divided by a sigma that was not given."""
    if scale_by_sigma and sigma is None:
        raise ValueError("scale_by_sigma divides the output by sigma: pass sigma [B], or set scale_by_sigma=False")


def centre(x: Array, centered: bool, dtype: Dtype) -> Array:
    """2 x - 1, or x itself if it is centred at zero already, in the dtype of the convolutions: x [B, ..., C]."""
    return (x if centered else 2 * x - 1).astype(dtype)


def finish(y: Array, sigma: Array | None, scale_by_sigma: bool) -> Array:
    """y in float32, divided by sigma [B] if the network is parametrised so: y [B, ...]."""
    y = y.astype(jnp.float32)
    return y / expand(sigma.astype(jnp.float32), y) if scale_by_sigma and sigma is not None else y
