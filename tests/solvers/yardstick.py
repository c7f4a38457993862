"""The recorded error of other people's samplers against network evaluations, and ours on the same problems."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from score_sde.config import default
from score_sde.config.automatic import choose
from score_sde.experiment import objects, solving
from score_sde.scores.posterior import Small
from score_sde.sde import SDE, denoiser, karras, vp
from score_sde.solvers import Solver
from tests.golden_files import load
from tests.oracles import recorded_law
from tests.solvers.recorded import trajectory

BUDGETS = (10, 20, 40, 80)


class Problem(NamedTuple):
    """From the prior at T to t_min, then denoised where the recorded end is sigma = 0."""

    sde: SDE
    t_min: float
    denoise: bool
    scale: float
    end: str


PROBLEMS = {"vp": Problem(vp(), 1e-3, False, 1.0, "vp1e-3"), "edm": Problem(karras(), 0.002, True, 80.0, "edm0")}
EDM_PEERS = ("EDM", "kd ")
PLASTIC = 1.3247179572447460
"""The root of x^3 = x + 1, whose first two negative powers fill a square more evenly than any others."""


def peers(problem: str) -> dict[int, tuple[float, str]]:
    """The least RMS error on the mixture of any recorded deterministic sampler of the problem, and its name."""
    g, found = load("yardstick", "solvers"), {}
    for name, kind, asked, error in zip(*(g[k] for k in ("names", "kind", "nfe_target", "rms_mix"))):
        of_edm = str(name).startswith(EDM_PEERS)
        if kind == "det" and of_edm == (problem == "edm") and error > 0:
            found[int(asked)] = min(found.get(int(asked), (np.inf, "")), (float(error), str(name)))
    return found


def stochastic_peers(names: tuple[str, ...] = ("",)) -> dict[int, tuple[float, str]]:
    """The least Wasserstein distance on the Gaussian of the recorded samplers that draw noise, by budget.

    names: what theirs begin with.
    """
    g, found = load("yardstick", "solvers"), {}
    for name, kind, asked, distance in zip(*(g[k] for k in ("names", "kind", "nfe_target", "w2_gauss"))):
        if kind == "sto" and str(name).startswith(names) and distance > 0:
            found[int(asked)] = min(found.get(int(asked), (np.inf, "")), (float(distance), str(name)))
    return found


def rms_error(problem: str, solver: Solver, grid: jax.Array, law: str = "mix") -> float:
    """Of 32 recorded starting points against the converged probability flow's ends."""
    return rms_errors(problem, solver, grid[None], law)[0]


def rms_errors(problem: str, solver: Solver, grids: jax.Array, law: str = "mix") -> list[float]:
    """The same for several grids [G, N + 1], in one program."""
    p, g = PROBLEMS[problem], load("yardstick", "solvers")
    score, x = recorded_law(law).score(p.sde), p.scale * g[f"{law}__unit_x"]

    def end(grid):
        end = trajectory(solver, p.sde, score, x, grid)[-1]
        return denoiser(p.sde, score)(end, grid[-1]) if p.denoise else end

    ends = np.asarray(jax.jit(jax.vmap(end))(grids))
    return [float(np.sqrt(np.mean((end - g[f"{law}__ref_{p.end}"]) ** 2))) for end in ends]


def law_error(problem: str, solver: Solver, grid: jax.Array, count: int = 2**17) -> float:
    """Sliced W_2, per coordinate, of the law of `count` samples from the exact one of the mixture, at its end.

    Root mean square over eight directions of the plane of the one-dimensional W_2, by sorted projections against exact
    quantiles (Bonneel et al. 2015). Not more than the RMS error of a pathwise solver, but for the prior's law and for
    so few samples. The starting points fill the plane evenly (Roberts 2018); they and the noise are the same for all.
    """
    p, law, steps = PROBLEMS[problem], recorded_law("mix"), len(grid) - 1
    rng = np.random.default_rng(0)
    even = (0.5 + np.arange(count)[:, None] * PLASTIC ** np.array([-1.0, -2.0])) % 1
    x = float(p.sde.prior_std) * scipy.special.ndtri(even)
    noise, angles = rng.standard_normal((steps, count, 2)), np.pi * (np.arange(8) + 0.5) / 8

    def end(x, noise, grid):
        end = trajectory(solver, p.sde, law.score(p.sde), x, grid, noise)[-1]
        return denoiser(p.sde, law.score(p.sde))(end, grid[-1]) if p.denoise else end

    ends = np.asarray(jax.jit(end)(x, noise, grid))
    alpha, sigma = (1.0, 0.0) if p.denoise else (float(p.sde.alpha(grid[-1])), float(p.sde.sigma(grid[-1])))
    directions = np.stack([np.cos(angles), np.sin(angles)])
    exact = np.stack([quantiles(alpha, sigma, direction, count) for direction in directions.T], 1)
    return float(np.sqrt(np.mean((np.sort(ends @ directions, 0) - exact) ** 2)))


def quantiles(alpha: float, sigma: float, direction: np.ndarray, count: int) -> np.ndarray:
    """Those at (i + 1/2) / count of alpha x_0 + sigma z along a direction, x_0 of the mixture."""
    weights, means, stds = (load("closed_form", "solvers")[f"mix__{name}"] for name in ("w", "mu", "s"))
    places = np.linspace(-6, 6, 40_001)
    standard = (places[:, None] - alpha * means @ direction) / np.hypot(alpha * stds, sigma)
    return np.interp((np.arange(count) + 0.5) / count, scipy.special.ndtr(standard) @ weights, places)


def automatic(problem: str, budget: int, **changes: Any) -> tuple[Solver, jax.Array]:
    """The solver of "auto" for so many evaluations, with other fields where there are changes, and its grid."""
    p, config = PROBLEMS[problem], default()
    config.sampling.t_min = p.t_min
    config.sampling.update({**choose(problem, budget, p.denoise).fields, **changes})
    solver = solving.solver(config.sampling, Small())
    assert isinstance(solver, Solver)
    return solver, objects.GRIDS[config.sampling.times](config, p.sde)


def wasserstein(
    problem: str, solver: Solver, grid: jax.Array, mean: float = 0.3, std: float = 0.5, draws: int = 1
) -> float:
    """W_2 of the samples' law from the exact one, per coordinate of Gaussian data; exact, as the sampler is affine.

    Example 0 starts at 0 and meets no noise, example 1 starts at 1, and every other one meets one noise of 1: of step
    i, and of the so many that a step draws.
    """
    p, steps = PROBLEMS[problem], len(grid) - 1
    marginal = lambda t: p.sde.alpha(t) ** 2 * std**2 + p.sde.sigma(t) ** 2
    score = lambda x, t: -(x - p.sde.alpha(t) * mean) / marginal(t)
    x = jnp.zeros((draws * steps + 2, 1)).at[1].set(1.0)
    noise = jnp.eye(draws * steps, len(x), 2)[..., None].reshape(draws, steps, len(x), 1)
    ends = jax.jit(lambda x, grid: trajectory(solver, p.sde, score, x, grid, *noise)[-1])(x, grid)
    ends = denoiser(p.sde, score)(ends, grid[-1]) if p.denoise else ends
    ends = np.asarray(ends)[:, 0]
    scales = (ends - ends[0])[1:] * np.append(float(p.sde.prior_std), np.ones(draws * steps))
    if p.denoise:
        exact_mean, exact_std = mean, std
    else:
        exact_mean, exact_std = float(p.sde.alpha(grid[-1])) * mean, float(np.sqrt(marginal(grid[-1])))
    return float(np.hypot(ends[0] - exact_mean, np.sqrt(np.sum(scales**2)) - exact_std))
