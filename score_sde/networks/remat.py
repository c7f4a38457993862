"""Rematerialisation: what a training step keeps of the forward pass for its gradient, and what it computes again."""

from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from score_sde.typing import Array

PRODUCT = "product"

POLICIES: dict[str, Any] = {
    "dots": jax.checkpoint_policies.save_only_these_names(PRODUCT),
    "blocks": jax.checkpoint_policies.nothing_saveable,
}
"""What is kept inside a block. Its input is kept always, and everything where there is no policy ("none")."""

REMAT = ("none", *POLICIES)


def product(y: Array) -> Array:
    """y itself, marked as the output of a convolution or a matrix product, which "dots" keeps.

    By name: a policy by primitive would not see into a convolution with a gradient of its own (conv.py).
    """
    return checkpoint_name(y, PRODUCT)


def remat(block: type[nn.Module], choice: str) -> Any:
    """The block's class, whose gradient keeps what `choice` says: no value, no gradient and no parameter changes.

    "none" keeps all that the gradient reads; "dots" the block's input and its products (see `product`), so that
    norms, activations, dropout and softmax are computed again; "blocks" the input alone. Compile with
    `compiler_options`, or nothing is gained on CPU. ValueError for another choice.
    Source: Chen et al. 2016.
    """
    if choice == "none":
        return block
    if choice not in POLICIES:
        raise ValueError(f"remat is {choice!r}: choose one of {', '.join(REMAT)}")
    # Both passes lie in one body of the scan over updates: their common subexpressions must be kept apart.
    return nn.remat(block, policy=POLICIES[choice], prevent_cse=True)


def compiler_options(platform: str) -> dict[str, str] | None:
    """What a program that differentiates a network is to be compiled with (jax.jit's argument) for such a backend.

    XLA's CPU compiler drops the barriers between the two passes before it eliminates common subexpressions, which
    undoes rematerialisation; without that pass of it the barriers stand. Programs without barriers are not changed.
    """
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if platform == "cpu" else None
