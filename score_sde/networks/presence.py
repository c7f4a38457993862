"""Networks that are told which elements of x are there."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from score_sde.names import PRESENT
from score_sde.typing import Array


class Presence(nn.Module):
    """x [B, ..., C] and condition["present"], bool of x's elements -> the network of both, 2 C channels.

    Behind x come 1 where an element is there and 0 where it is not; x has 0 there itself. Its out_channels are x's C,
    which it cannot know. Raises ValueError where the condition does not say what is there.
    """

    network: nn.Module

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Array | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        given = dict(condition or {})
        if PRESENT not in given:
            raise ValueError(f"the condition has {sorted(given)}: it needs {PRESENT!r}, which elements of x are there")
        there = given.pop(PRESENT).reshape(x.shape).astype(x.dtype)
        more: dict[str, Any] = {"condition": given} if given else {}
        return self.network(jnp.concatenate([x, there], axis=-1), label, sigma, dropout_keys, **more)  # pyright: ignore[reportCallIssue]
