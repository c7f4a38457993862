"""Time grids for fixed-grid solvers: num_steps + 1 nodes from T down to t_min, both included; or discrete levels."""

import jax.numpy as jnp

from score_sde.errors import require
from score_sde.parametrization import Levels
from score_sde.sde import SDE
from score_sde.typing import Array


def _check(sde: SDE, t_min: float, num_steps: int) -> None:
    require(num_steps >= 1, f"num_steps={num_steps} must be at least 1")
    require(t_min > 0, f"t_min={t_min} must be positive: the score is not defined at t = 0")


def uniform(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in t. Under VE this is equally spaced in log sigma."""
    _check(sde, t_min, num_steps)
    return jnp.linspace(sde.T, t_min, num_steps + 1)


def quadratic(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in sqrt(t), denser near t_min (DDIM's quadratic grid, Song et al. 2020)."""
    _check(sde, t_min, num_steps)
    return jnp.linspace(jnp.sqrt(sde.T), jnp.sqrt(t_min), num_steps + 1) ** 2


def log_snr(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in log(alpha^2 / sigma^2) (Lu et al. 2022, DPM-Solver)."""
    _check(sde, t_min, num_steps)
    first, last = sde.log_snr(sde.T), sde.log_snr(t_min)
    inner = sde.time(jnp.linspace(first, last, num_steps + 1)[1:-1])
    ends = jnp.asarray([sde.T, t_min], inner.dtype)
    return jnp.concatenate([ends[:1], inner, ends[1:]])


def levels(sde: SDE, noise_levels: Levels, num_steps: int) -> Array:
    """num_steps of the N discrete levels from the most noise to the least, all of them for num_steps = N.

    The last level is a node, from which the final denoising is the last of num_steps evaluations: over DDPM's chain,
    ancestral steps on this grid are Ho et al.'s algorithm 2, and every so many levels DDIM's sub-sequences.
    """
    n = noise_levels.num_scales
    require(1 <= num_steps <= n, f"num_steps={num_steps} must lie between 1 and the {n} levels there are")
    most, least = (0, n - 1) if noise_levels.first > noise_levels.last else (n - 1, 0)
    return noise_levels.time(sde, jnp.round(jnp.linspace(most, least, num_steps)))
