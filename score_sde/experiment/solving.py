"""What samples are drawn with, by the words of the `sampling` section: solvers, their noise, correctors."""

import dataclasses
from collections.abc import Callable

from score_sde import solvers
from score_sde.config import Config
from score_sde.scores import posterior
from score_sde.typing import ScoreFn


def _each_adaptive(order: int, sampling: Config) -> solvers.DPMSolverAdaptive:
    """Each sample by its own steps, none of them longer than 1 in log(alpha / sigma)."""
    return solvers.DPMSolverAdaptive(order, sampling.dpm_rtol, sampling.dpm_atol, per_sample=True, longest=1.0)


SOLVERS: dict[str, Callable[[Config, posterior.Variance], solvers.Solver | solvers.AdaptiveSolver]] = {
    "euler_maruyama": lambda c, v: solvers.EulerMaruyama(c.churn),
    "reverse_diffusion": lambda c, v: solvers.ReverseDiffusion(),
    "ancestral": lambda c, v: solvers.Ancestral(v),
    "euler": lambda c, v: solvers.Euler(),
    "heun": lambda c, v: solvers.Heun(),
    "edm": lambda c, v: solvers.Churned(solvers.Heun(), c.s_churn, c.s_min, c.s_max, c.s_noise),
    "ddim": lambda c, v: solvers.DDIM(c.eta),
    "deis_2": lambda c, v: solvers.ExponentialAdams(2, lower_final=15),
    "deis_3": lambda c, v: solvers.ExponentialAdams(3, lower_final=15),
    "lms": lambda c, v: solvers.LinearMultistep(),
    "dpm_solver_2s": lambda c, v: solvers.DPMSolverSinglestep(2, solvers.Noise()),
    "dpm_solver_3s": lambda c, v: solvers.DPMSolverSinglestep(3, solvers.Noise()),
    "dpm_solver_2m": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Noise(), lower_final=10),
    "dpm_solver_3m": lambda c, v: solvers.DPMSolverMultistep(3, solvers.Noise(), lower_final=10),
    "dpm_solver_pp_2s": lambda c, v: solvers.DPMSolverSinglestep(2),
    "dpm_solver_pp_3s": lambda c, v: solvers.DPMSolverSinglestep(3),
    "dpm_solver_2s_ancestral": lambda c, v: solvers.AncestralNoise(
        solvers.DPMSolverSinglestep(2, solvers.Noise()), c.churn
    ),
    "dpm_solver_pp_2s_ancestral": lambda c, v: solvers.AncestralNoise(solvers.DPMSolverSinglestep(2), c.churn),
    "dpm_solver_pp_2m": lambda c, v: solvers.DPMSolverMultistep(2, lower_final=10),
    "dpm_solver_pp_3m": lambda c, v: solvers.DPMSolverMultistep(3, lower_final=10),
    "dpm_solver_pp_2m_sde": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Data(c.churn)),
    "dpm_solver_pp_3m_sde": lambda c, v: solvers.DPMSolverMultistep(3, solvers.Data(c.churn), taylor=True),
    "dpm_solver_pp_sde": lambda c, v: solvers.DPMSolverSDE(c.churn),
    "dpm_solver_12": lambda c, v: _each_adaptive(2, c),
    "dpm_solver_23": lambda c, v: _each_adaptive(3, c),
    "dpm_solver_12_batch": lambda c, v: solvers.DPMSolverAdaptive(2, c.dpm_rtol, c.dpm_atol),
    "dpm_solver_23_batch": lambda c, v: solvers.DPMSolverAdaptive(3, c.dpm_rtol, c.dpm_atol),
    "unipc_2": lambda c, v: solvers.UniPC(2),
    "unipc_3": lambda c, v: solvers.UniPC(3),
    "unipc_2_bh1": lambda c, v: solvers.UniPC(2, exponential=False),
    "unipc_3_bh1": lambda c, v: solvers.UniPC(3, exponential=False),
    "unipc_2_vary_coeff": lambda c, v: solvers.UniPCVaryCoeff(2),
    "unipc_3_vary_coeff": lambda c, v: solvers.UniPCVaryCoeff(3),
    "adams_2": lambda c, v: solvers.ExponentialAdams(2, corrected=True, lower_final=True),
    "adams_3": lambda c, v: solvers.ExponentialAdams(3, corrected=True, lower_final=True),
    "adams_4": lambda c, v: solvers.ExponentialAdams(4, corrected=True, lower_final=True),
    "exponential_euler_maruyama": lambda c, v: solvers.ExponentialAdams(1, solvers.Data(c.churn)),
    "peaked_sde": lambda c, v: solvers.ExponentialAdams(1, solvers.Peaked(c.churn, c.center)),
    "sde_adams_2": lambda c, v: solvers.ExponentialAdams(2, solvers.Data(c.churn)),
    "sde_adams_3": lambda c, v: solvers.ExponentialAdams(3, solvers.Data(c.churn)),
    "rk45": lambda c, v: solvers.RK45(c.rtol, c.atol, per_sample=True),
    "rk45_batch": lambda c, v: solvers.RK45(c.rtol, c.atol),
    "adaptive_sde": lambda c, v: solvers.AdaptiveSDE(c.sde_rtol, c.sde_atol, c.churn),
    "gotta_go_fast": lambda c, v: solvers.GottaGoFast(c.sde_rtol, c.sde_atol),
    "none": lambda c, v: solvers.NoPredictor(),
}
LOWER_FINAL: dict[str, bool | None] = {"published": None, "always": True, "never": False}
"""By sampling.lower_final; None leaves a solver as it is."""
CORRECTORS: dict[str, Callable[[Config], solvers.Corrector | None]] = {
    "none": lambda c: None,
    "langevin": lambda c: solvers.Langevin(c.snr, c.corrector_steps),
    "annealed_langevin": lambda c: solvers.AnnealedLangevin(c.snr, c.corrector_steps),
}
VARIANCES: dict[str, Callable[[ScoreFn], posterior.Variance]] = {
    "small": lambda fraction: posterior.Small(),
    "large": lambda fraction: posterior.Large(),
    "learned": posterior.Learned,
}


def solver(sampling: Config, variance: posterior.Variance) -> solvers.Solver | solvers.AdaptiveSolver:
    """The solver of a valid `sampling` section, which may ask for other last steps than the word's own."""
    found, lowered = SOLVERS[sampling.solver](sampling, variance), LOWER_FINAL[sampling.lower_final]
    return found if lowered is None else dataclasses.replace(found, lower_final=lowered)  # pyright: ignore
