"""How much the KL terms of an evidence lower bound weigh while they are trained: warm-up and balance."""

import jax
import jax.numpy as jnp

from score_sde.typing import Array


def kl_weight(step: Array, updates: int, after: int = 0, low: float = 0.0, high: float = 1.0) -> Array:
    """The weight [] of KL at an update []: low until `after`, high from `updates` later, and linear in between.

    updates: 0 for high from the first. Sources: Bowman et al. 2016; Vahdat et al. 2021 for its two ends.
    """
    share = (step - after) / updates if updates else jnp.ones(())
    return low + (high - low) * jnp.clip(share, 0.0, 1.0)


def balance(divergences: Array, alpha: Array) -> Array:
    """Coefficients [..., L] of mean 1 of levels whose KL is [..., L], in proportion to (|KL| + 0.01) / alpha [L].

    A level that has fallen behind is held back less, so that none dies while the warm-up lasts; no gradient passes
    through them. alpha: what a level should have, such as its size. Source: Vahdat & Kautz 2020, appendix A.
    """
    found = (jnp.abs(jax.lax.stop_gradient(divergences)) + 0.01) / alpha.reshape((1,) * (divergences.ndim - 1) + (-1,))
    return found / found.mean(axis=-1, keepdims=True)
