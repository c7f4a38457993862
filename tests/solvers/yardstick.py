"""The recorded error of other people's samplers against network evaluations, and ours on the same problems."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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


def peers(problem: str) -> dict[int, tuple[float, str]]:
    """The least RMS error on the mixture of any recorded deterministic sampler of the problem, and its name."""
    g, found = load("yardstick", "solvers"), {}
    for name, kind, asked, error in zip(*(g[k] for k in ("names", "kind", "nfe_target", "rms_mix"))):
        of_edm = str(name).startswith(EDM_PEERS)
        if kind == "det" and of_edm == (problem == "edm") and error > 0:
            found[int(asked)] = min(found.get(int(asked), (np.inf, "")), (float(error), str(name)))
    return found


def stochastic_peers(names: tuple[str, ...]) -> dict[int, tuple[float, str]]:
    """The least Wasserstein distance on the Gaussian of the recorded samplers whose names begin with one of these."""
    g, found = load("yardstick", "solvers"), {}
    for name, asked, distance in zip(*(g[k] for k in ("names", "nfe_target", "w2_gauss"))):
        if str(name).startswith(names) and distance > 0:
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


def wasserstein(problem: str, solver: Solver, grid: jax.Array, mean: float = 0.3, std: float = 0.5) -> float:
    """W_2 of the samples' law from the exact one, per coordinate of Gaussian data; exact, as the sampler is affine.

    Example 0 starts at 0 and meets no noise, example 1 starts at 1, and example 2 + i meets noise 1 in step i.
    """
    p, steps = PROBLEMS[problem], len(grid) - 1
    marginal = lambda t: p.sde.alpha(t) ** 2 * std**2 + p.sde.sigma(t) ** 2
    score = lambda x, t: -(x - p.sde.alpha(t) * mean) / marginal(t)
    x = jnp.zeros((steps + 2, 1)).at[1].set(1.0)
    noise = jnp.eye(steps, steps + 2, 2)[..., None]
    ends = jax.jit(lambda x, grid: trajectory(solver, p.sde, score, x, grid, noise)[-1])(x, grid)
    ends = denoiser(p.sde, score)(ends, grid[-1]) if p.denoise else ends
    ends = np.asarray(ends)[:, 0]
    scales = (ends - ends[0])[1:] * np.append(float(p.sde.prior_std), np.ones(steps))
    if p.denoise:
        exact_mean, exact_std = mean, std
    else:
        exact_mean, exact_std = float(p.sde.alpha(grid[-1])) * mean, float(np.sqrt(marginal(grid[-1])))
    return float(np.hypot(ends[0] - exact_mean, np.sqrt(np.sum(scales**2)) - exact_std))
