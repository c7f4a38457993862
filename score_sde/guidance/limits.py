"""What keeps guided scores within bounds: thresholds on the denoiser, rescaling to the unguided one."""

from collections.abc import Callable

import jax.numpy as jnp

from score_sde.sde import SDE, denoiser, score_of
from score_sde.typing import Array, ScoreFn, expand


def static(x0: Array, bound: float = 1.0) -> Array:
    """x_0 [B, ...] clipped to [-bound, bound]."""
    return jnp.clip(x0, -bound, bound)


def dynamic(x0: Array, share: float = 0.995, bound: float = 1.0, largest: float | None = None) -> Array:
    """clip(x_0, -s, s) / s of every example [B, ...], s = max(quantile_share |x_0|, 1), times the bound.

    largest: s is taken for no more than it; at 1 that is `static`. Source: Saharia et al. 2022 (Imagen), section 2.3.
    """
    flat = jnp.abs(x0.reshape(len(x0), -1)) / bound
    s = jnp.clip(jnp.quantile(flat, share, axis=1), 1.0, largest)
    return jnp.clip(x0, -bound * expand(s, x0), bound * expand(s, x0)) / expand(s, x0)


def thresholded(score: ScoreFn, sde: SDE, threshold: Callable[[Array], Array]) -> ScoreFn:
    """The score whose denoiser is threshold(D(x, t)): after guidance, before the step. No oracle is exact under it."""

    def bounded(x: Array, t: Array) -> Array:
        t = jnp.asarray(t)
        D = threshold(denoiser(sde, score)(x, t))
        return score_of(sde, x, D, t)

    return bounded


def rescaled(guided: Array, conditional: Array, share: float = 0.7) -> Array:
    """phi guided std(conditional) / std(guided) + (1 - phi) guided, phi the `share`; the deviations of every example.

    Of scores as of noise predictions [B, ...]. Source: Lin et al. 2023, section 3.4.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = jnp.std(conditional, axes, keepdims=True) / jnp.std(guided, axes, keepdims=True)
    return share * guided * ratio + (1 - share) * guided
