"""Solvers of the reverse-time SDE and the probability-flow ODE behind one contract: solvers/base.py."""

from score_sde.solvers.ancestral import Ancestral
from score_sde.solvers.base import AdaptiveSolver, Corrector, OneStepSolver, Solver
from score_sde.solvers.euler import Euler, EulerMaruyama
from score_sde.solvers.langevin import AnnealedLangevin, Langevin
from score_sde.solvers.predictor_corrector import NoPredictor, PredictorCorrector
from score_sde.solvers.reverse_diffusion import ReverseDiffusion
from score_sde.solvers.rk45 import RK45

__all__ = [
    "RK45",
    "AdaptiveSolver",
    "Ancestral",
    "AnnealedLangevin",
    "Corrector",
    "Euler",
    "EulerMaruyama",
    "Langevin",
    "NoPredictor",
    "OneStepSolver",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Solver",
]
