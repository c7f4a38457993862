# ruff: noqa: F401
"""Score-based generative modeling through stochastic differential equations, in JAX and Flax.

Every name of `__all__` is imported when it is first asked for (PEP 562), so that importing the package costs next to
nothing. docs/api.md has a line about each.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "config.fields": "Config default",
    "config.reading": "load",
    "config.validation": "validate",
    "data.arrays": "array_file",
    "data.augment": "preprocess",
    "data.mel": "Mel",
    "data.sources": "Dataset Source digits",
    "data.spec": "Spec",
    "data.stream": "Batch Stream",
    "errors": "CheckpointError UsageError",
    "evaluation.figures": "figures",
    "evaluation.frechet": "Moments frechet_distance",
    "evaluation.inception_score": "inception_score",
    "evaluation.kernel": "kernel_distance",
    "evaluation.manifold": "manifold",
    "evaluation.neighbours": "copying_ratio nearest_neighbour_accuracy",
    "evaluation.statistics": "FeatureSet",
    "evaluation.two_sample": "TwoSample two_sample",
    "experiment.building": "build",
    "experiment.experiment": "Experiment",
    "experiment.exporting": "Exported export_checkpoint",
    "experiment.features": "InceptionFeatures extractor",
    "experiment.generation": "Generated Generator",
    "experiment.image_likelihood": "ImageLikelihood",
    "experiment.importing": "Imported import_checkpoint",
    "experiment.resolving": "load_data",
    "guidance.classifier": "class_log_prob classifier_guided guided_by",
    "guidance.classifier_free": "apart batched classifier_free limited",
    "guidance.diffpir": "DiffPIRScore",
    "guidance.dps": "DPSScore",
    "guidance.jfps": "JFPS",
    "guidance.matched": "Matched",
    "guidance.measurement": "Measurement measurement",
    "guidance.mmps": "MMPS",
    "guidance.pigdm": "PiGDM",
    "guidance.posterior": "PosteriorScore",
    "guidance.tmpd": "TMPD",
    "likelihood.bound": "sde_bound",
    "likelihood.classes": "bayes of_every_class",
    "likelihood.encoding": "blend decode encode interpolate temperature",
    "likelihood.grid": "log_likelihood_on",
    "likelihood.ode": "LogLikelihood log_likelihood log_likelihood_given",
    "loop.health": "NonFiniteLoss",
    "loop.loop": "train",
    "networks.adm": "ADM dhariwal",
    "networks.adm_encoder": "ADMEncoder",
    "networks.concatenating": "Concatenating",
    "networks.ddpm": "ddpm",
    "networks.edm2": "EDM2",
    "networks.egnn": "EGNN",
    "networks.fourier": "FourierFeatures",
    "networks.gamma": "Gamma",
    "networks.ncsnpp": "NCSNpp",
    "networks.ncsnv2": "NCSNv2",
    "networks.text": "Text",
    "networks.transformer": "SpatialTransformer TextEncoder TransformerBlock",
    "networks.wavegrad": "WaveGrad",
    "networks.wideresnet": "WideResNet normalise_cifar10",
    "objectives.denoising": (
        "BetweenLevels LevelTimes LikelihoodTimes LogNormalTimes UniformTimes denoising_loss denoising_loss_at perturb"
    ),
    "objectives.masked": "Schedule denoised score_entropy",
    "objectives.variational": "BoundLoss HybridLoss bits_per_dim variational_bound",
    "reporting.records": "curves",
    "reporting.report": "report",
    "rng": "example_keys positions root_key",
    "scores.divergence": "Coloured Divergence Rademacher",
    "scores.noisy_condition": "NoisyCondition",
    "scores.parametrization": (
        "Difference Levels Parametrization PosteriorMean Preconditioned Velocity log_sigma_label root_sigma_label "
        "sigma_label time_label ve_levels vp_levels"
    ),
    "sde.analytic": "gaussian mixture",
    "sde.base": "SDE Reverse denoiser reverse transition",
    "sde.chain": "VPChain cosine_betas linear_betas polynomial_betas vp_chain",
    "sde.conditioning": "condition condition_noised edited log_evidence",
    "sde.cosine": "Cosine cosine",
    "sde.exploding": "VE Karras karras ve",
    "sde.interpolants": "LinearVP Polynomial Straight polynomial",
    "sde.learned": "Learned",
    "sde.linear": "VP SubVP subvp vp",
    "signals": "Stopped",
    "solvers.adaptive_sde": "AdaptiveSDE",
    "solvers.ancestral": "Ancestral",
    "solvers.base": "AdaptiveSolver Corrector Deterministic NoisySolver OneStepSolver Solver Step",
    "solvers.churn": "AncestralNoise Churned",
    "solvers.constrained": "Constrained",
    "solvers.ddim": "DDIM",
    "solvers.ddrm": "DDRM",
    "solvers.diffpir": "DiffPIR",
    "solvers.dpm_solver": "DPMSolverMultistep DPMSolverSinglestep",
    "solvers.dpm_solver_adaptive": "DPMSolverAdaptive",
    "solvers.dpm_solver_sde": "DPMSolverSDE",
    "solvers.dps": "DPS",
    "solvers.editing": "Purified edit purify",
    "solvers.euler": "Euler EulerMaruyama Heun",
    "solvers.exponential_adams": "ExponentialAdams",
    "solvers.few_step": "few_step few_steps_from",
    "solvers.gotta_go_fast": "GottaGoFast",
    "solvers.langevin": "AnnealedLangevin Langevin",
    "solvers.linear_multistep": "LinearMultistep",
    "solvers.multistep": "Multistep",
    "solvers.particles": "sample_particles",
    "solvers.pgdm": "PGDM",
    "solvers.predictor_corrector": "NoPredictor PredictorCorrector",
    "solvers.repaint": "RePaint",
    "solvers.replacement": "Replacement",
    "solvers.reverse_diffusion": "ReverseDiffusion",
    "solvers.rk45": "RK45",
    "solvers.sampling": "Samples sample trajectory",
    "solvers.unipc": "UniPC UniPCVaryCoeff",
    "storage.checkpoint": "Checkpoints",
    "storage.workdir": "Workdir",
    "systems.base": "System",
    "training.ema": "Average",
    "training.optimizer": "Optimizer",
    "training.step": "TrainState initial_state make_train_step",
    "typing": "ScoreFn expand",
}
"""The public names by the module that has them."""

if TYPE_CHECKING:  # the same names, for what reads Python without running it
    from score_sde.config.fields import Config, default
    from score_sde.config.reading import load
    from score_sde.config.validation import validate
    from score_sde.data.arrays import array_file
    from score_sde.data.augment import preprocess
    from score_sde.data.mel import Mel
    from score_sde.data.sources import Dataset, Source, digits
    from score_sde.data.spec import Spec
    from score_sde.data.stream import Batch, Stream
    from score_sde.errors import CheckpointError, UsageError
    from score_sde.evaluation.figures import figures
    from score_sde.evaluation.frechet import Moments, frechet_distance
    from score_sde.evaluation.inception_score import inception_score
    from score_sde.evaluation.kernel import kernel_distance
    from score_sde.evaluation.manifold import manifold
    from score_sde.evaluation.neighbours import copying_ratio, nearest_neighbour_accuracy
    from score_sde.evaluation.statistics import FeatureSet
    from score_sde.evaluation.two_sample import TwoSample, two_sample
    from score_sde.experiment.building import build
    from score_sde.experiment.experiment import Experiment
    from score_sde.experiment.exporting import Exported, export_checkpoint
    from score_sde.experiment.features import InceptionFeatures, extractor
    from score_sde.experiment.generation import Generated, Generator
    from score_sde.experiment.image_likelihood import ImageLikelihood
    from score_sde.experiment.importing import Imported, import_checkpoint
    from score_sde.experiment.resolving import load_data
    from score_sde.guidance.classifier import class_log_prob, classifier_guided, guided_by
    from score_sde.guidance.classifier_free import apart, batched, classifier_free, limited
    from score_sde.guidance.diffpir import DiffPIRScore
    from score_sde.guidance.dps import DPSScore
    from score_sde.guidance.jfps import JFPS
    from score_sde.guidance.matched import Matched
    from score_sde.guidance.measurement import Measurement, measurement
    from score_sde.guidance.mmps import MMPS
    from score_sde.guidance.pigdm import PiGDM
    from score_sde.guidance.posterior import PosteriorScore
    from score_sde.guidance.tmpd import TMPD
    from score_sde.likelihood.bound import sde_bound
    from score_sde.likelihood.classes import bayes, of_every_class
    from score_sde.likelihood.encoding import blend, decode, encode, interpolate, temperature
    from score_sde.likelihood.grid import log_likelihood_on
    from score_sde.likelihood.ode import LogLikelihood, log_likelihood, log_likelihood_given
    from score_sde.loop.health import NonFiniteLoss
    from score_sde.loop.loop import train
    from score_sde.networks.adm import ADM, dhariwal
    from score_sde.networks.adm_encoder import ADMEncoder
    from score_sde.networks.concatenating import Concatenating
    from score_sde.networks.ddpm import ddpm
    from score_sde.networks.edm2 import EDM2
    from score_sde.networks.egnn import EGNN
    from score_sde.networks.fourier import FourierFeatures
    from score_sde.networks.gamma import Gamma
    from score_sde.networks.ncsnpp import NCSNpp
    from score_sde.networks.ncsnv2 import NCSNv2
    from score_sde.networks.text import Text
    from score_sde.networks.transformer import SpatialTransformer, TextEncoder, TransformerBlock
    from score_sde.networks.wavegrad import WaveGrad
    from score_sde.networks.wideresnet import WideResNet, normalise_cifar10
    from score_sde.objectives.denoising import (
        BetweenLevels,
        LevelTimes,
        LikelihoodTimes,
        LogNormalTimes,
        UniformTimes,
        denoising_loss,
        denoising_loss_at,
        perturb,
    )
    from score_sde.objectives.masked import Schedule, denoised, score_entropy
    from score_sde.objectives.variational import BoundLoss, HybridLoss, bits_per_dim, variational_bound
    from score_sde.reporting.records import curves
    from score_sde.reporting.report import report
    from score_sde.rng import example_keys, positions, root_key
    from score_sde.scores.divergence import Coloured, Divergence, Rademacher
    from score_sde.scores.noisy_condition import NoisyCondition
    from score_sde.scores.parametrization import (
        Difference,
        Levels,
        Parametrization,
        PosteriorMean,
        Preconditioned,
        Velocity,
        log_sigma_label,
        root_sigma_label,
        sigma_label,
        time_label,
        ve_levels,
        vp_levels,
    )
    from score_sde.sde.analytic import gaussian, mixture
    from score_sde.sde.base import SDE, Reverse, denoiser, reverse, transition
    from score_sde.sde.chain import VPChain, cosine_betas, linear_betas, polynomial_betas, vp_chain
    from score_sde.sde.conditioning import condition, condition_noised, edited, log_evidence
    from score_sde.sde.cosine import Cosine, cosine
    from score_sde.sde.exploding import VE, Karras, karras, ve
    from score_sde.sde.interpolants import LinearVP, Polynomial, Straight, polynomial
    from score_sde.sde.learned import Learned
    from score_sde.sde.linear import VP, SubVP, subvp, vp
    from score_sde.signals import Stopped
    from score_sde.solvers.adaptive_sde import AdaptiveSDE
    from score_sde.solvers.ancestral import Ancestral
    from score_sde.solvers.base import (
        AdaptiveSolver,
        Corrector,
        Deterministic,
        NoisySolver,
        OneStepSolver,
        Solver,
        Step,
    )
    from score_sde.solvers.churn import AncestralNoise, Churned
    from score_sde.solvers.constrained import Constrained
    from score_sde.solvers.ddim import DDIM
    from score_sde.solvers.ddrm import DDRM
    from score_sde.solvers.diffpir import DiffPIR
    from score_sde.solvers.dpm_solver import DPMSolverMultistep, DPMSolverSinglestep
    from score_sde.solvers.dpm_solver_adaptive import DPMSolverAdaptive
    from score_sde.solvers.dpm_solver_sde import DPMSolverSDE
    from score_sde.solvers.dps import DPS
    from score_sde.solvers.editing import Purified, edit, purify
    from score_sde.solvers.euler import Euler, EulerMaruyama, Heun
    from score_sde.solvers.exponential_adams import ExponentialAdams
    from score_sde.solvers.few_step import few_step, few_steps_from
    from score_sde.solvers.gotta_go_fast import GottaGoFast
    from score_sde.solvers.langevin import AnnealedLangevin, Langevin
    from score_sde.solvers.linear_multistep import LinearMultistep
    from score_sde.solvers.multistep import Multistep
    from score_sde.solvers.particles import sample_particles
    from score_sde.solvers.pgdm import PGDM
    from score_sde.solvers.predictor_corrector import NoPredictor, PredictorCorrector
    from score_sde.solvers.repaint import RePaint
    from score_sde.solvers.replacement import Replacement
    from score_sde.solvers.reverse_diffusion import ReverseDiffusion
    from score_sde.solvers.rk45 import RK45
    from score_sde.solvers.sampling import Samples, sample, trajectory
    from score_sde.solvers.unipc import UniPC, UniPCVaryCoeff
    from score_sde.storage.checkpoint import Checkpoints
    from score_sde.storage.workdir import Workdir
    from score_sde.systems.base import System
    from score_sde.training.ema import Average
    from score_sde.training.optimizer import Optimizer
    from score_sde.training.step import TrainState, initial_state, make_train_step
    from score_sde.typing import ScoreFn, expand
else:
    _MODULE_OF = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names.split()}
    __all__ = list(_MODULE_OF)

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        globals()[name] = value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
