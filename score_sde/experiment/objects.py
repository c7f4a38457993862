"""What every string of a config stands for: the only place where one becomes an object."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from score_sde import sde, solvers
from score_sde.config import Config
from score_sde.config.architecture import NETWORK_FIELDS
from score_sde.config.averages import power_name, stored_names
from score_sde.data import nonleaking
from score_sde.data.cache import Cache
from score_sde.data.pictures import Format
from score_sde.data.resolve import CROPS, resolve
from score_sde.data.sources import Images, Source, array_file, digits
from score_sde.devices.parallel import Pmap, Sharded, Strategy
from score_sde.networks.ddpm import ddpm
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.ncsnv2 import NCSNv2
from score_sde.objectives import denoising, score_matching, variational
from score_sde.scores import parametrization, posterior
from score_sde.scores.divergence import Coloured, Divergence, Exact, Gaussian, Rademacher
from score_sde.sde import chain
from score_sde.solvers import grids, reference
from score_sde.training import ema
from score_sde.typing import Array, ScoreFn


def levels(config: Config) -> parametrization.Levels:
    """The discrete noise levels of the config's SDE."""
    return LEVELS[config.sde.name](config.sde.num_scales)


def reduction(config: Config) -> denoising.Reduction:
    """The mean over an example's elements, or half their sum."""
    return denoising.mean if config.training.reduce_mean else denoising.half_sum


def averages(config: Config) -> dict[str, ema.Average]:
    """The averages of the config's `ema` section by name, the main one first."""
    found = {name: average for kind in config.ema.averages for name, average in AVERAGES[kind](config.ema).items()}
    assert tuple(found) == stored_names(config)
    return found


def _bound(config: Config) -> variational.BoundLoss:
    """The bound for 8-bit images."""
    low = -1.0 if config.data.centered else 0.0
    return variational.BoundLoss(levels(config), variational.Discretized(low))


def _network_fields(config: Config) -> dict[str, Any]:
    """The arguments that every network takes, and those of its own."""
    own = {field: config.network[field] for field in NETWORK_FIELDS[config.network.name]}
    return {**own, "centered": config.data.centered, "dtype": jnp.dtype(config.training.compute_dtype)}


def _resolved(data: Config) -> Images:
    """The images of a `data` section that may lie in a folder, a zip file or a TFDS directory."""
    form = Format(data.image_size, data.num_channels, CROPS.get(data.name, 0))
    return resolve(data.name, data.path, data.category, form, Cache(data.cache, data.cache_limit), data.workers)


def _out_channels(config: Config) -> int | None:
    """Twice the image's channels where the network also learns variances."""
    return 2 * config.data.num_channels if config.parametrization.learned_variance else None


SCHEDULES: dict[str, Callable[[Config], np.ndarray]] = {
    "linear": lambda c: chain.linear_betas(c.num_scales, c.beta_min, c.beta_max),
    "cosine": lambda c: chain.cosine_betas(c.num_scales),
}
SDES: dict[str, Callable[[Config], sde.SDE]] = {
    "vp": lambda c: chain.vp_chain(SCHEDULES[c.schedule](c)) if c.discrete else sde.vp(c.beta_min, c.beta_max),
    "subvp": lambda c: sde.subvp(c.beta_min, c.beta_max),
    "ve": lambda c: sde.ve(c.sigma_min, c.sigma_max),
    "edm": lambda c: sde.karras(c.sigma_max),
}
LEVELS = {"vp": parametrization.vp_levels, "ve": parametrization.ve_levels}
NETWORKS: dict[str, Callable[[Config], nn.Module]] = {
    "ncsnpp": lambda c: NCSNpp(
        **_network_fields(c), out_channels=_out_channels(c), augment_dim=nonleaking.LABELS if c.data.augmentation else 0
    ),
    "ddpm": lambda c: ddpm(**_network_fields(c), out_channels=_out_channels(c)),
    "ncsnv2_64": lambda c: NCSNv2(64, **_network_fields(c)),
    "ncsnv2_128": lambda c: NCSNv2(128, **_network_fields(c)),
    "ncsnv2_256": lambda c: NCSNv2(256, **_network_fields(c)),
    "ncsn": lambda c: NCSNv2(64, num_classes=c.sde.num_scales, **_network_fields(c)),
}
PREDICTIONS: dict[str, Callable[[Config], parametrization.Prediction]] = {
    "noise": lambda c: parametrization.Noise(),
    "score": lambda c: parametrization.Score(),
    "denoiser": lambda c: parametrization.Denoiser(),
    "velocity": lambda c: parametrization.Velocity(),
    "posterior_mean": lambda c: parametrization.PosteriorMean(c.sde.num_scales),
    "edm": lambda c: parametrization.Preconditioned(c.parametrization.sigma_data),
}
LABELS: dict[str, Callable[[Config], parametrization.Label]] = {
    "time": lambda c: parametrization.time_label,
    "sigma": lambda c: parametrization.sigma_label,
    "log_sigma": lambda c: parametrization.log_sigma_label,
    "root_sigma": lambda c: parametrization.root_sigma_label,
    "level": levels,
}
OBJECTIVES: dict[str, Callable[[Config], denoising.Objective]] = {
    "denoising": lambda c: denoising.denoising,
    "implicit": lambda c: score_matching.implicit,
    "sliced": lambda c: score_matching.Sliced(c.projections, variance_reduced=False),
    "sliced_variance_reduced": lambda c: score_matching.Sliced(c.projections),
}
BOUNDS: dict[str, Callable[[Config], variational.BoundLoss | variational.HybridLoss]] = {
    "variational": lambda c: _bound(c),
    "hybrid": lambda c: variational.HybridLoss(
        _bound(c), WEIGHTINGS[c.training.weighting](c), reduction(c), c.training.bound_weight
    ),
}
WEIGHTINGS: dict[str, Callable[[Config], denoising.Weighting]] = {
    "simple": lambda c: denoising.simple,
    "likelihood": lambda c: denoising.likelihood,
    "edm": lambda c: denoising.EDM(c.parametrization.sigma_data),
}
TIMES: dict[str, Callable[[Config], denoising.Times]] = {
    "uniform": lambda c: denoising.UniformTimes(c.training.t_min),
    "likelihood": lambda c: denoising.LikelihoodTimes(c.training.t_min),
    "log_normal": lambda c: denoising.LogNormalTimes(c.training.p_mean, c.training.p_std),
    "levels": lambda c: denoising.LevelTimes(levels(c)),
}
AVERAGES: dict[str, Callable[[Config], dict[str, ema.Average]]] = {
    "constant": lambda c: {"constant": ema.Constant(c.decay)},
    "warmup": lambda c: {"warmup": ema.WarmedUp(c.decay)},
    "half_life": lambda c: {"half_life": ema.HalfLife(c.half_life, c.rampup)},
    "power": lambda c: {power_name(std): ema.Power(std) for std in c.power_stds},
}
SKIPPING = {"stop": False, "skip": True}
"""Whether an update that is not finite is left out, by training.nonfinite."""
STRATEGIES: dict[str, Callable[[Config], Strategy]] = {"pmap": lambda c: Pmap(), "sharded": lambda c: Sharded(c.fsdp)}
SOLVERS: dict[str, Callable[[Config, posterior.Variance], solvers.Solver | solvers.AdaptiveSolver]] = {
    "euler_maruyama": lambda c, v: solvers.EulerMaruyama(c.churn),
    "reverse_diffusion": lambda c, v: solvers.ReverseDiffusion(),
    "ancestral": lambda c, v: solvers.Ancestral(v),
    "euler": lambda c, v: solvers.Euler(),
    "heun": lambda c, v: solvers.Heun(),
    "edm": lambda c, v: solvers.Churned(solvers.Heun(), c.s_churn, c.s_min, c.s_max, c.s_noise),
    "ddim": lambda c, v: solvers.DDIM(c.eta),
    "deis_2": lambda c, v: solvers.ExponentialAdams(2),
    "deis_3": lambda c, v: solvers.ExponentialAdams(3),
    "lms": lambda c, v: solvers.LinearMultistep(),
    "dpm_solver_2s": lambda c, v: solvers.DPMSolverSinglestep(2, solvers.Noise()),
    "dpm_solver_3s": lambda c, v: solvers.DPMSolverSinglestep(3, solvers.Noise()),
    "dpm_solver_2m": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Noise()),
    "dpm_solver_3m": lambda c, v: solvers.DPMSolverMultistep(3, solvers.Noise()),
    "dpm_solver_pp_2s": lambda c, v: solvers.DPMSolverSinglestep(2),
    "dpm_solver_pp_3s": lambda c, v: solvers.DPMSolverSinglestep(3),
    "dpm_solver_pp_2s_ancestral": lambda c, v: solvers.AncestralNoise(solvers.DPMSolverSinglestep(2), c.churn),
    "dpm_solver_pp_2m": lambda c, v: solvers.DPMSolverMultistep(2),
    "dpm_solver_pp_3m": lambda c, v: solvers.DPMSolverMultistep(3),
    "dpm_solver_pp_2m_sde": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Data(c.churn)),
    "unipc_2": lambda c, v: solvers.UniPC(2),
    "unipc_3": lambda c, v: solvers.UniPC(3),
    "unipc_2_bh1": lambda c, v: solvers.UniPC(2, exponential=False),
    "unipc_3_bh1": lambda c, v: solvers.UniPC(3, exponential=False),
    "adams_2": lambda c, v: solvers.ExponentialAdams(2, corrected=True, lower_final=True),
    "adams_3": lambda c, v: solvers.ExponentialAdams(3, corrected=True, lower_final=True),
    "adams_4": lambda c, v: solvers.ExponentialAdams(4, corrected=True, lower_final=True),
    "exponential_euler_maruyama": lambda c, v: solvers.ExponentialAdams(1, solvers.Data(c.churn)),
    "sde_adams_2": lambda c, v: solvers.ExponentialAdams(2, solvers.Data(c.churn)),
    "sde_adams_3": lambda c, v: solvers.ExponentialAdams(3, solvers.Data(c.churn)),
    "rk45": lambda c, v: solvers.RK45(c.rtol, c.atol, per_sample=True),
    "rk45_batch": lambda c, v: solvers.RK45(c.rtol, c.atol),
    "adaptive_sde": lambda c, v: solvers.AdaptiveSDE(c.sde_rtol, c.sde_atol, c.churn),
    "none": lambda c, v: solvers.NoPredictor(),
}
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
DIVERGENCES: dict[str, Callable[[Config], Divergence]] = {
    "rademacher": lambda c: Rademacher(c.probes),
    "gaussian": lambda c: Gaussian(c.probes),
    "coloured": lambda c: Coloured(c.probes),
    "exact": lambda c: Exact(),
}
SPLITS: dict[str, Callable[[Images], Source]] = {
    "held_out": lambda images: images.held_out,
    "train": lambda images: images.train,
}
GRIDS: dict[str, Callable[[Config, sde.SDE], Array]] = {
    "uniform": lambda c, s: grids.uniform(s, c.sampling.t_min, c.sampling.num_steps),
    "quadratic": lambda c, s: grids.quadratic(s, c.sampling.t_min, c.sampling.num_steps),
    "power": lambda c, s: grids.power(s, c.sampling.t_min, c.sampling.num_steps, c.sampling.rho),
    "log_snr": lambda c, s: grids.log_snr(s, c.sampling.t_min, c.sampling.num_steps),
    "log_sigma": lambda c, s: grids.log_sigma(s, c.sampling.t_min, c.sampling.num_steps),
    "karras": lambda c, s: grids.karras(s, c.sampling.t_min, c.sampling.num_steps, c.sampling.rho),
    "edm_levels": lambda c, s: grids.edm_levels(s, c.sampling.t_min, c.sampling.num_steps),
    "levels": lambda c, s: grids.levels(s, levels(c), c.sampling.num_steps),
}
CHAINS: dict[str, Callable[[Config, int], reference.Discretization]] = {
    "vp": lambda c, n: reference.DiscreteVP(sde.vp(c.beta_min, c.beta_max), n),
    "subvp": lambda c, n: reference.DiscreteSubVP(sde.subvp(c.beta_min, c.beta_max), n),
    "ve": lambda c, n: reference.DiscreteVE(sde.ve(c.sigma_min, c.sigma_max), n),
}
REFERENCE_PREDICTORS: dict[str, Callable[[Config], reference.Predictor]] = {
    "euler_maruyama": lambda c: reference.EulerMaruyama(probability_flow=c.churn == 0),
    "reverse_diffusion": lambda c: reference.ReverseDiffusion(probability_flow=c.churn == 0),
    "ancestral": lambda c: reference.Ancestral(),
    "none": lambda c: reference.NoPredictor(),
}
REFERENCE_CORRECTORS: dict[str, Callable[[Config], reference.Corrector | None]] = {
    "none": lambda c: None,
    "langevin": lambda c: reference.Langevin(c.snr),
    "annealed_langevin": lambda c: reference.AnnealedLangevin(c.snr),
}
IMAGES: dict[str, Callable[[Config], Images]] = {
    "digits": lambda c: digits(),
    "array": lambda c: array_file(c.path),
    **dict.fromkeys(("folder", "tfds", "cifar10", "svhn", "celeba", "lsun", "ffhq", "celebahq"), _resolved),
}
