"""A grid of times found by a pilot run: where the score of the user's own model asks for short steps.

1. A few samples are carried from T to t_min in many small steps, and the noise prediction eps is kept at each.
2. On it, the local error of a step of length h in l = log(alpha / sigma) of an exponential integrator of order p is
   proportional to h^(p + 1) e(l), e = |d^p eps / dl^p| sigma / alpha. A grid whose steps share int e^(1 / (p + 1)) dl
   evenly makes all of them equal (de Boor 1973; Pereyra & Sewell 1975). e is weighted by how far an error in
   x / alpha grows until t_min, for which the spread of the samples there over that at l stands in.
3. These grids, for p = 1, 2, 3, and the closed-form ones compete: each carries the same samples with the solver and
   the number of steps asked for, and the one that ends nearest to the pilot run wins. That choosing times by the error
   of samples pays is Xue et al. 2024 (arXiv 2402.17376) and Sabour et al. 2024 (arXiv 2404.14507).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from score_sde.rng import Purpose, child
from score_sde.sde import SDE
from score_sde.solvers import ExponentialAdams, Solver, grids
from score_sde.typing import Array, Keys, ScoreFn

FINE = 160
"""Steps of the pilot run."""

SAMPLES = 32
"""Enough of them for a grid; the memory that is needed is that of their noise predictions at all fine nodes."""

POWERS, RHOS = (1.0, 1.5, 2.0, 3.0, 5.0), (3.0, 7.0, 20.0)
"""Of the closed-form competitors: grids.power and grids.karras."""


def optimised(
    keys: Keys, score: ScoreFn, sde: SDE, shape: tuple[int, ...], *, solver: Solver, t_min: float, num_steps: int
) -> Array:
    """The grid [num_steps + 1] for a solver that draws nothing, by a pilot run of one sample per key.

    About 160 + 12 num_steps evaluations per sample, once; pure: jit it as a whole. 16 to 64 keys are enough.
    """
    x = sde.prior_sample(child(keys, Purpose.PRIOR), shape)
    end, places, densities = pilot_run(score, sde, x, t_min)
    candidates = jnp.stack(
        [
            *(grids.from_density(sde, t_min, num_steps, places, d) for d in densities),
            *(grids.power(sde, t_min, num_steps, p) for p in POWERS),
            *(grids.karras(sde, t_min, num_steps, rho) for rho in RHOS),
            grids.log_snr(sde, t_min, num_steps),
        ]
    )
    errors = jax.lax.map(lambda grid: jnp.mean((carried(keys, score, sde, x, solver, grid) - end) ** 2), candidates)
    return candidates[jnp.nanargmin(errors)]


def carried(keys: Keys, score: ScoreFn, sde: SDE, x: Array, solver: Solver, grid: Array) -> Array:
    """x at the grid's end."""

    def body(carry: tuple, ends: tuple[Array, Array]) -> tuple[tuple, None]:
        step = solver.step(keys, sde, score, carry[0], *ends, carry[1])
        return (step.x, step.memory), None

    return jax.lax.scan(body, (x, solver.init(sde, x, grid)), (grid[:-1], grid[1:]))[0][0]


def pilot_run(score: ScoreFn, sde: SDE, x: Array, t_min: float) -> tuple[Array, Array, Sequence[Array]]:
    """The end of the fine run [B, ...], its log-SNRs [FINE + 1], and there the densities of steps for p = 1, 2, 3."""
    grid, solver = _fine_grid(sde, t_min), ExponentialAdams(3, corrected=True)

    def body(carry: tuple, ends: tuple[Array, Array]) -> tuple[tuple, tuple[Array, Array]]:
        step = solver.step(None, sde, score, carry[0], *ends, carry[1])  # pyright: ignore[reportArgumentType]
        spread = jnp.mean(jnp.std(carry[0], axis=0))
        return (step.x, step.memory), (step.memory.outputs[0], spread)

    (end, _), (noise, spread) = jax.lax.scan(body, (x, solver.init(sde, x, grid)), (grid[:-1], grid[1:]))
    places = sde.log_snr(grid)
    growth = (sde.alpha(grid) / spread[-1:])[:-1] / spread
    weight = (sde.sigma(grid) / sde.alpha(grid))[:-1] * growth
    return end, places, [_filled(_density(noise, places[:-1], weight, p)) for p in (1, 2, 3)]


def _fine_grid(sde: SDE, t_min: float) -> Array:
    """Half of the steps equally spaced in log-SNR, half in time: neither end is left without."""
    in_time, in_log_snr = grids.power(sde, t_min, FINE // 2, 2.0), grids.log_snr(sde, t_min, FINE - FINE // 2 + 1)
    return jnp.sort(jnp.concatenate([in_time, in_log_snr[1:-1]]))[::-1]


def _density(noise: Array, places: Array, weight: Array, p: int) -> Array:
    """(weight |d^p eps / dl^p|)^(1 / (p + 1)) at the first nodes [K]."""
    return (weight * derivative(noise.reshape(len(noise), -1), places, p, 9)) ** (1 / (p + 1))


def derivative(values: Array, places: Array, p: int, window: int) -> Array:
    """Root mean square |d^p values / dl^p| [K] at rising places l [K], of values [K, D]: by divided differences.

    Smoothed over an odd number of places.
    """
    at = places
    for _ in range(p):
        values = jnp.diff(values, axis=0) / jnp.diff(at)[:, None]
        at = 0.5 * (at[1:] + at[:-1])
    size = jnp.sqrt(jnp.mean(values**2, axis=1))
    size = jnp.interp(places, at, size)
    mean = jnp.ones(window, size.dtype) / window
    return jnp.convolve(jnp.pad(size, window // 2, mode="edge"), mean, mode="valid")


def _filled(density: Array) -> Array:
    """Nowhere less than a hundredth of the largest; a value for the last node."""
    density = jnp.maximum(density, 0.01 * jnp.max(density))
    return jnp.concatenate([density, density[-1:]])
