"""Time grids for fixed-grid solvers: num_steps + 1 nodes from T down to t_min, both included; or discrete levels."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from score_sde.errors import require
from score_sde.scores.parametrization import Levels
from score_sde.sde import SDE
from score_sde.solvers import exponential
from score_sde.typing import Array


def _check(sde: SDE, t_min: float, num_steps: int) -> None:
    require(num_steps >= 1, f"num_steps={num_steps} must be at least 1")
    require(t_min > 0, f"t_min={t_min} must be positive: the score is not defined at t = 0")


def uniform(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in t. Under VE this is equally spaced in log sigma."""
    _check(sde, t_min, num_steps)
    return jnp.linspace(sde.T, t_min, num_steps + 1)


def below(times: Array, level: float) -> Array:
    """A grid from the time `level` down: it, and the nodes of times [N + 1] below it. Not for use under jit.

    Raises UsageError for a level that the grid does not have below its first node and above its last.
    """
    first, last = float(times[0]), float(times[-1])
    require(last < level <= first, f"level={level} is to lie on the grid, above {last} and not above {first}")
    rest = np.asarray(times)
    return jnp.concatenate([jnp.full(1, level, times.dtype), jnp.asarray(rest[rest < level])])


def quadratic(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in sqrt(t), denser near t_min (DDIM's quadratic grid, Song et al. 2020)."""
    return power(sde, t_min, num_steps, 2.0)


def power(sde: SDE, t_min: float, num_steps: int, rho: float = 3.0) -> Array:
    """Nodes equally spaced in t^(1 / rho): karras' rule in the SDE's own time. rho 1 is uniform, 2 is quadratic."""
    _check(sde, t_min, num_steps)
    _check_rho(rho)
    root = lambda t: jnp.asarray(t, float) ** (1 / rho)
    return _between(sde, t_min, jnp.linspace(root(sde.T), root(t_min), num_steps + 1) ** rho)


def log_snr(sde: SDE, t_min: float, num_steps: int, power: float = 1.0) -> Array:
    """Nodes equally spaced in l = log(alpha^2 / sigma^2) (Lu et al. 2022, DPM-Solver).

    power p: l_i = l_N - (l_N - l_0) (1 - i / N)^p, denser near t_min for p > 1 (k-diffusion's polyexponential grid).
    """
    _check(sde, t_min, num_steps)
    first, last = sde.log_snr(sde.T), sde.log_snr(t_min)
    return _between(sde, t_min, sde.time(last - (last - first) * _falling(num_steps) ** power))


def log_sigma(sde: SDE, t_min: float, num_steps: int) -> Array:
    """Nodes equally spaced in log sigma; under VE and EDM's SDE these are those of log_snr."""
    _check(sde, t_min, num_steps)
    first, last = jnp.log(sde.sigma(sde.T)), jnp.log(sde.sigma(t_min))
    targets = first + (last - first) * (1 - _falling(num_steps))
    return _between(sde, t_min, _solved(lambda t: jnp.log(sde.sigma(t)), targets, t_min, sde.T))


def karras(sde: SDE, t_min: float, num_steps: int, rho: float = 7.0) -> Array:
    """Nodes equally spaced in (sigma / alpha)^(1 / rho) (Karras et al. 2022, eq. 5); rho -> infinity is log_snr."""
    _check(sde, t_min, num_steps)
    _check_rho(rho)
    root = lambda t: jnp.exp(-0.5 / rho * sde.log_snr(t))
    roots = root(t_min) + (root(sde.T) - root(t_min)) * _falling(num_steps)
    return _between(sde, t_min, sde.time(-2 * rho * jnp.log(roots)))


def of_betas(sde: SDE, betas: Sequence[float]) -> Array:
    """The nodes of a chain of betas [N], the least first: the times at which alpha^2 is prod_{j <= i} (1 - beta_j).

    N nodes from the last one down, hence N - 1 steps; `sample` goes on by the final denoising. Of a variance preserving
    SDE. Raises UsageError for betas outside of (0, 1), fewer than two of them, and levels that the SDE has not.
    """
    beta = np.asarray(betas, np.float64)
    require(
        beta.ndim == 1 and len(beta) > 1 and ((beta > 0) & (beta < 1)).all(),
        f"betas={tuple(betas)}: give two or more numbers in (0, 1), the variances that the steps add",
    )
    log_abar = np.cumsum(np.log1p(-beta))
    with jax.ensure_compile_time_eval():
        least = 2 * np.log(float(sde.alpha(jnp.asarray(sde.T, float))))
    require(
        log_abar[-1] >= least - 1e-6,
        f"betas={tuple(betas)} go down to alpha^2={np.exp(log_abar[-1]):.3g}, and the SDE to {np.exp(least):.3g}: give"
        " smaller ones",
    )
    log_snr = log_abar - np.log(-np.expm1(log_abar))
    return jnp.clip(sde.time(jnp.asarray(log_snr[::-1].copy(), float)), 0, sde.T)


def iddpm_levels(count: int = 1000, c1: float = 0.001, c2: float = 0.008) -> Array:
    """The sigma / alpha of Improved DDPM's network, highest first [count]: EDM's u_0 .. u_{M-1}.

    u_{j-1} = sqrt((u_j^2 + 1) / max(abar_{j-1} / abar_j, c1) - 1) from u_M = 0, abar_j = sin^2(pi j / (2 M (c2 + 1))).
    Source: Karras et al. 2022, table 1, after Nichol & Dhariwal 2021.
    """
    j = np.arange(count + 1)
    abar = np.sin(0.5 * np.pi * j / (count * (c2 + 1))) ** 2
    u = np.zeros(count + 1)
    for i in range(count, 0, -1):
        u[i - 1] = np.sqrt((u[i] ** 2 + 1) / max(abar[i - 1] / abar[i], c1) - 1)
    return jnp.asarray(u[:-1])


def edm_levels(sde: SDE, t_min: float, num_steps: int, table: Array | None = None) -> Array:
    """num_steps + 1 levels of a network that knows only those of a falling table of sigma / alpha, iddpm_levels'.

    Equally spaced in the table, from the level nearest T to the one nearest t_min (Karras et al. 2022, table 1); the
    ends are those levels.
    """
    _check(sde, t_min, num_steps)
    table = iddpm_levels() if table is None else table
    nearest = lambda t: jnp.argmin(jnp.abs(table - sde.sigma(t) / sde.alpha(t))).astype(table.dtype)
    first, last = nearest(sde.T), nearest(t_min)
    places = jnp.round(first + (last - first) * (1 - _falling(num_steps))).astype(int)
    return sde.time(-2 * jnp.log(table[places]))


def from_density(sde: SDE, t_min: float, num_steps: int, places: Array, density: Array) -> Array:
    """Nodes that share an integral evenly: of the density [K] of steps over increasing places [K] in log-SNR.

    The places run from log_snr(T) to log_snr(t_min); the density is linear in between.
    """
    _check(sde, t_min, num_steps)
    return _between(sde, t_min, sde.time(at_shares(places, density, 1 - _falling(num_steps))))


def peaked(sde: SDE, t_min: float, num_steps: int, churn: float, center: float = 0.5) -> Array:
    """Nodes that share 1 + churn(l)^2 evenly over l = log(alpha / sigma), the churn that of exponential.Peaked.

    So every step puts back as much noise as any other.
    """
    places = jnp.linspace(sde.log_snr(sde.T), sde.log_snr(t_min), 1024)
    return from_density(sde, t_min, num_steps, places, 1 + exponential.peaked(0.5 * places, churn, center) ** 2)


def at_shares(places: Array, density: Array, shares: Array) -> Array:
    """Where these shares [N] of the integral of a density [K] over rising places [K] are reached; linear in between."""
    pieces = 0.5 * (density[1:] + density[:-1]) * jnp.diff(places)
    total = jnp.concatenate([jnp.zeros_like(pieces[:1]), jnp.cumsum(pieces)])
    return jnp.interp(total[-1] * shares, total, places)


def _check_rho(rho: float) -> None:
    require(
        rho > 0, f"rho={rho} must be positive: Karras et al. take 7 in karras, and 2 in power is the quadratic grid"
    )


def _falling(num_steps: int) -> Array:
    """1, 1 - 1 / N, ..., 0."""
    return jnp.linspace(1.0, 0.0, num_steps + 1)


def _between(sde: SDE, t_min: float, times: Array) -> Array:
    """The times with both ends put exactly."""
    return times.at[0].set(sde.T).at[-1].set(t_min)


def _solved(f: Callable[[Array], Array], targets: Array, low: float, high: float) -> Array:
    """t between low and high with f(t) = target, for an increasing f, by bisection."""

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        below, above = bounds
        middle = 0.5 * (below + above)
        right = f(middle) < targets
        return jnp.where(right, middle, below), jnp.where(right, above, middle)

    bounds = jnp.full_like(targets, low), jnp.full_like(targets, high)
    return jax.lax.fori_loop(0, 60, halve, bounds)[0]


def levels(sde: SDE, noise_levels: Levels, num_steps: int) -> Array:
    """num_steps of the N discrete levels from the most noise to the least, all of them for num_steps = N.

    The last level is a node, from which the final denoising is the last of num_steps evaluations: over DDPM's chain,
    ancestral steps on this grid are Ho et al.'s algorithm 2, and every so many levels DDIM's sub-sequences.
    """
    n = noise_levels.num_scales
    require(1 <= num_steps <= n, f"num_steps={num_steps} must lie between 1 and the {n} levels there are")
    most, least = (0, n - 1) if noise_levels.first > noise_levels.last else (n - 1, 0)
    return noise_levels.time(sde, jnp.round(jnp.linspace(most, least, num_steps)))
