"""What every score network does with its images and its sigma: checks, the range of the input, the 1 / sigma."""

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
    """ValueError, ending in `remedy`, unless H and W of x [B, H, W, C] can be halved that many times."""
    height, width = x.shape[1:3]
    if height % 2**times or width % 2**times:
        raise ValueError(f"images of {height}x{width} cannot be halved {times} times, {remedy}")


def check_sigma(scale_by_sigma: bool, sigma: Array | None) -> None:
    """ValueError if the output is to be divided by a sigma that was not given."""
    if scale_by_sigma and sigma is None:
        raise ValueError("scale_by_sigma divides the output by sigma: pass sigma [B], or set scale_by_sigma=False")


def centre(x: Array, centered: bool, dtype: Dtype) -> Array:
    """2 x - 1, or x itself if it is centred at zero already, in the dtype of the convolutions: x [B, H, W, C]."""
    return (x if centered else 2 * x - 1).astype(dtype)


def finish(y: Array, sigma: Array | None, scale_by_sigma: bool) -> Array:
    """y in float32, divided by sigma [B] if the network is parametrised so: y [B, H, W, C]."""
    y = y.astype(jnp.float32)
    return y / expand(sigma.astype(jnp.float32), y) if scale_by_sigma and sigma is not None else y
