"""What every string of a config stands for: the only place where one becomes an object."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from score_sde import sde, solvers
from score_sde.config import Config
from score_sde.config.architecture import image_shape
from score_sde.config.averages import power_name, stored_names
from score_sde.config.data_checks import picture_shape, stored_ranges
from score_sde.config.fields import DECODED, ZERO_NULL, network_fields
from score_sde.data import kinds, nonleaking
from score_sde.data.cache import Cache
from score_sde.data.pictures import Format
from score_sde.data.resolve import CROPS, array, resolve
from score_sde.data.sources import Dataset, Source, digits
from score_sde.data.spec import Spec
from score_sde.devices.parallel import Pmap, Sharded, Strategy
from score_sde.devices.platform import platform
from score_sde.networks.adm import ADM, dhariwal
from score_sde.networks.ddpm import ddpm
from score_sde.networks.edm2 import EDM2
from score_sde.networks.ncsnpp import NCSNpp
from score_sde.networks.ncsnv2 import NCSNv2
from score_sde.networks.wideresnet import WideResNet
from score_sde.objectives import denoising, score_matching, variational
from score_sde.scores import parametrization, posterior
from score_sde.scores.divergence import Coloured, Divergence, Exact, Gaussian, Rademacher
from score_sde.sde import chain
from score_sde.solvers import grids, reference
from score_sde.solvers.sampling import Samples
from score_sde.systems import Classifier, Score, System
from score_sde.systems.score import Dropped, Objective
from score_sde.training import ema
from score_sde.typing import Array, Keys, ScoreFn


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


def objective(config: Config) -> Objective:
    """What the config's `training` section minimises."""
    c = config.training
    if c.objective in BOUNDS:
        return Objective(BOUNDS[c.objective](config))
    options = {
        "weighting": WEIGHTINGS[c.weighting](config),
        "times": TIMES[c.times](config),
        "reduction": reduction(config),
        "objective": OBJECTIVES[c.objective](c),
    }

    def loss(keys: Keys, model: variational.Model, sde: sde.SDE, x0: Array, u: Array) -> Array:
        return denoising.denoising_loss(keys, lambda x, t: model(x, t)[0], sde, x0, u=u, **options)

    # The other objectives differentiate the score forwards.
    return Objective(loss, backwards=c.objective == "denoising")


def _network_fields(config: Config, spec: Spec) -> dict[str, Any]:
    """The arguments that every network takes, and those of its own."""
    own = {field: config.network[field] for field in network_fields(config.network.name)}
    dropout, labels = own.pop("label_dropout", 0.0), spec.labels
    if labels is not None:
        row = own.get("null_label", "row") == "row" and config.network.name not in ZERO_NULL
        own["label_rows"] = labels.count + (dropout > 0 and row)
    centered = config.data.centered or spec.kind != "bytes"
    return {**own, "centered": centered, "dtype": jnp.dtype(config.training.compute_dtype)}


def _u_net_fields(config: Config, spec: Spec) -> dict[str, Any]:
    """Those of a U-Net, which has twice the image's channels where it also learns variances."""
    twice = 2 * spec.shape[-1] if config.parametrization.learned_variance else None
    return {**_network_fields(config, spec), "out_channels": twice}


def _wide_fields(config: Config, spec: Spec) -> dict[str, Any]:
    """WideResNet's names of its fields."""
    c, classes = config.network, spec.labels.count if spec.labels else 0
    own = {"blocks_per_group": c.num_res_blocks, "widen_factor": c.widen_factor, "fourier_scale": c.fourier_scale}
    dtype = jnp.dtype(config.training.compute_dtype)
    return {**own, "embedding_features": c.nf, "num_classes": classes, "dtype": dtype}


def _resolved(data: Config) -> Dataset:
    """The pictures of a `data` section that may lie in a folder, a zip file or a TFDS directory."""
    height, width, channels = picture_shape(data)
    form = Format(height, channels, CROPS.get(data.name, 0), width, data.max_pixels)
    cache, conditions, ranges = Cache(data.cache, data.cache_limit), tuple(data.condition), stored_ranges(data)
    return resolve(data.name, data.path, data.category, form, cache, data.workers, conditions, ranges)


def score_system(config: Config, spec: Spec, sampler: Callable[..., Samples], frozen: Mapping[str, Any]) -> Score:
    """The system that trains a score network, without a part of any other run."""
    del frozen
    prediction = PREDICTIONS[config.parametrization.prediction](config)
    labels = spec.labels
    return Score(
        shape=spec.shape,
        image_shape=image_shape(spec.shape),
        process=SDES[config.sde.name](config.sde),
        network=NETWORKS[config.network.name](config, spec),
        parametrization=parametrization.Parametrization(prediction, LABELS[config.parametrization.label](config)),
        objective=objective(config),
        sampler=sampler,
        dropout=config.network.dropout > 0,
        learned_variance=config.parametrization.learned_variance,
        dropped=Dropped(config.network.label_dropout, labels.count if labels else 0),
        labelled=labels is not None,
        remat=config.training.remat,
        scan_blocks=config.training.scan_blocks,
        platform=platform(config.parallel.topology),
    )


def classifier_system(config: Config, spec: Spec, sampler: Any, frozen: Mapping[str, Any]) -> Classifier:
    """The system that trains a classifier of noisy examples."""
    del sampler, frozen
    return Classifier(
        shape=spec.shape,
        image_shape=image_shape(spec.shape),
        process=SDES[config.sde.name](config.sde),
        network=NETWORKS[config.network.name](config, spec),
        label=LABELS[config.parametrization.label](config),
        times=TIMES[config.training.times](config),
        platform=platform(config.parallel.topology),
    )


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
NETWORKS: dict[str, Callable[[Config, Spec], nn.Module]] = {
    "ncsnpp": lambda c, s: NCSNpp(**_u_net_fields(c, s), augment_dim=nonleaking.LABELS if c.data.augmentation else 0),
    "ddpm": lambda c, s: ddpm(**_u_net_fields(c, s)),
    "adm": lambda c, s: ADM(**_u_net_fields(c, s)),
    "dhariwal": lambda c, s: dhariwal(
        **_u_net_fields(c, s), augment_dim=nonleaking.LABELS if c.data.augmentation else 0
    ),
    "edm2": lambda c, s: EDM2(**_u_net_fields(c, s)),
    "ncsnv2_64": lambda c, s: NCSNv2(64, **_network_fields(c, s)),
    "ncsnv2_128": lambda c, s: NCSNv2(128, **_network_fields(c, s)),
    "ncsnv2_256": lambda c, s: NCSNv2(256, **_network_fields(c, s)),
    "ncsn": lambda c, s: NCSNv2(64, num_classes=c.sde.num_scales, **_network_fields(c, s)),
    "wideresnet": lambda c, s: WideResNet(**_wide_fields(c, s)),
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
    "deis_2": lambda c, v: solvers.ExponentialAdams(2, lower_final=15),
    "deis_3": lambda c, v: solvers.ExponentialAdams(3, lower_final=15),
    "lms": lambda c, v: solvers.LinearMultistep(),
    "dpm_solver_2s": lambda c, v: solvers.DPMSolverSinglestep(2, solvers.Noise()),
    "dpm_solver_3s": lambda c, v: solvers.DPMSolverSinglestep(3, solvers.Noise()),
    "dpm_solver_2m": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Noise(), lower_final=10),
    "dpm_solver_3m": lambda c, v: solvers.DPMSolverMultistep(3, solvers.Noise(), lower_final=10),
    "dpm_solver_pp_2s": lambda c, v: solvers.DPMSolverSinglestep(2),
    "dpm_solver_pp_3s": lambda c, v: solvers.DPMSolverSinglestep(3),
    "dpm_solver_pp_2s_ancestral": lambda c, v: solvers.AncestralNoise(solvers.DPMSolverSinglestep(2), c.churn),
    "dpm_solver_pp_2m": lambda c, v: solvers.DPMSolverMultistep(2, lower_final=10),
    "dpm_solver_pp_3m": lambda c, v: solvers.DPMSolverMultistep(3, lower_final=10),
    "dpm_solver_pp_2m_sde": lambda c, v: solvers.DPMSolverMultistep(2, solvers.Data(c.churn)),
    "unipc_2": lambda c, v: solvers.UniPC(2),
    "unipc_3": lambda c, v: solvers.UniPC(3),
    "unipc_2_bh1": lambda c, v: solvers.UniPC(2, exponential=False),
    "unipc_3_bh1": lambda c, v: solvers.UniPC(3, exponential=False),
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
DIVERGENCES: dict[str, Callable[[Config], Divergence]] = {
    "rademacher": lambda c: Rademacher(c.probes),
    "gaussian": lambda c: Gaussian(c.probes),
    "coloured": lambda c: Coloured(c.probes),
    "exact": lambda c: Exact(),
}
SPLITS: dict[str, Callable[[Dataset], tuple[Source, Mapping[str, Source]]]] = {
    "held_out": lambda data: (data.held_out, data.held_out_condition),
    "train": lambda data: (data.train, data.condition),
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
    "peaked": lambda c, s: grids.peaked(s, c.sampling.t_min, c.sampling.num_steps, c.sampling.churn, c.sampling.center),
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
DATA: dict[str, Callable[[Config], Dataset]] = {
    "digits": lambda c: digits(),
    "array": lambda c: array(c.path, tuple(c.condition), Cache(c.cache, c.cache_limit)),
    **dict.fromkeys(DECODED, _resolved),
}
KINDS: dict[str, Callable[[Config, Spec], kinds.Kind]] = {
    "bytes": lambda c, s: kinds.Bytes(c.random_flip, c.uniform_dequantization, c.centered),
    "real": lambda c, s: kinds.Real(c.random_flip, s.mean, s.std),
    "tokens": lambda c, s: kinds.Tokens(),
}
SYSTEMS: dict[str, Callable[..., System]] = {"score": score_system, "classifier": classifier_system}


def solver(sampling: Config, variance: posterior.Variance) -> solvers.Solver | solvers.AdaptiveSolver:
    """The solver of a valid `sampling` section, which may ask for other last steps than the word's own."""
    found, lowered = SOLVERS[sampling.solver](sampling, variance), LOWER_FINAL[sampling.lower_final]
    return found if lowered is None else dataclasses.replace(found, lower_final=lowered)  # pyright: ignore
