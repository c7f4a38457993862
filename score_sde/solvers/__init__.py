"""Solvers of the reverse-time SDE and the probability-flow ODE behind one contract: solvers/base.py."""

from score_sde.solvers.adaptive_sde import AdaptiveSDE
from score_sde.solvers.ancestral import Ancestral
from score_sde.solvers.base import AdaptiveSolver, Corrector, Deterministic, NoisySolver, OneStepSolver, Solver
from score_sde.solvers.churn import AncestralNoise, Churned
from score_sde.solvers.constrained import Constrained
from score_sde.solvers.ddim import DDIM
from score_sde.solvers.ddnm import DDNM
from score_sde.solvers.ddrm import DDRM
from score_sde.solvers.diffpir import DiffPIR
from score_sde.solvers.dpm_solver import DPMSolverMultistep, DPMSolverSinglestep
from score_sde.solvers.dpm_solver_adaptive import DPMSolverAdaptive, LimitedGrowth
from score_sde.solvers.dpm_solver_sde import DPMSolverSDE
from score_sde.solvers.dps import DPS
from score_sde.solvers.euler import Euler, EulerMaruyama, Heun
from score_sde.solvers.exponential import Data, Noise, Peaked
from score_sde.solvers.exponential_adams import ExponentialAdams
from score_sde.solvers.gotta_go_fast import GottaGoFast
from score_sde.solvers.langevin import AnnealedLangevin, Langevin
from score_sde.solvers.limited_steps import LimitedSteps
from score_sde.solvers.linear_multistep import LinearMultistep
from score_sde.solvers.multistep import Multistep
from score_sde.solvers.pgdm import PGDM
from score_sde.solvers.predictor_corrector import NoPredictor, PredictorCorrector
from score_sde.solvers.repaint import RePaint
from score_sde.solvers.replacement import Replacement
from score_sde.solvers.reverse_diffusion import ReverseDiffusion
from score_sde.solvers.rk45 import RK45
from score_sde.solvers.unipc import UniPC, UniPCVaryCoeff

__all__ = [
    "DDIM",
    "DDNM",
    "DDRM",
    "DPS",
    "PGDM",
    "RK45",
    "AdaptiveSDE",
    "AdaptiveSolver",
    "Ancestral",
    "AncestralNoise",
    "AnnealedLangevin",
    "Churned",
    "Constrained",
    "Corrector",
    "DPMSolverAdaptive",
    "DPMSolverMultistep",
    "DPMSolverSDE",
    "DPMSolverSinglestep",
    "Data",
    "Deterministic",
    "DiffPIR",
    "Euler",
    "EulerMaruyama",
    "ExponentialAdams",
    "GottaGoFast",
    "Heun",
    "Langevin",
    "LimitedGrowth",
    "LimitedSteps",
    "LinearMultistep",
    "Multistep",
    "NoPredictor",
    "Noise",
    "NoisySolver",
    "OneStepSolver",
    "Peaked",
    "PredictorCorrector",
    "RePaint",
    "Replacement",
    "ReverseDiffusion",
    "Solver",
    "UniPC",
    "UniPCVaryCoeff",
]
