"""Networks that are shown x's fine structure too: sines and cosines of high frequency (Kingma et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from score_sde.typing import Array


class FourierFeatures(nn.Module):
    """x [B, H, W, C] -> the network of x and, for every n of `powers`, sin and cos of 2^n 2 pi x: C (1 + 2 N) channels.

    Behind x come all sines, channel by channel, then all cosines. What differs in the last bits of a byte differs in
    them by all, so that a network sees values that lie on a grid. Its out_channels are x's C, which it cannot know.
    Source: Kingma et al. 2021 (arXiv 2107.00630), appendix C; with powers 7 and 8 there, 6 and 7 in their code.
    """

    network: nn.Module
    powers: tuple[int, ...] = (6, 7)

    @nn.compact
    def __call__(
        self,
        x: Array,
        label: Array,
        sigma: Array | None = None,
        dropout_keys: Array | None = None,
        condition: Mapping[str, Array] | None = None,
    ) -> Array:
        more: dict[str, Any] = {"condition": condition} if condition else {}
        shown = jnp.concatenate([x, fourier_features(x, self.powers)], axis=-1)
        return self.network(shown, label, sigma, dropout_keys, **more)  # pyright: ignore[reportCallIssue]


def fourier_features(x: Array, powers: tuple[int, ...]) -> Array:
    """Sines, then cosines, of 2^n 2 pi x for every channel and n: [..., C] -> [..., 2 C N]."""
    frequencies = 2 * np.pi * 2.0 ** np.asarray(powers)
    phase = jnp.concatenate([x[..., None] * float(w) for w in frequencies], axis=-1).reshape(*x.shape[:-1], -1)
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
