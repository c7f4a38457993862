"""What every string of a config stands for: the only place where one becomes an object."""

from collections.abc import Callable, Mapping

import numpy as np

from score_sde import sde
from score_sde.config import Config
from score_sde.config.averages import power_name, stored_names
from score_sde.config.data_checks import picture_shape, stored_ranges
from score_sde.config.fields import DECODED
from score_sde.config.spaces import space_rank
from score_sde.data import kinds
from score_sde.data.cache import Cache
from score_sde.data.digit_pairs import digit_pairs
from score_sde.data.mel import Mel
from score_sde.data.pictures import Format
from score_sde.data.resolve import CROPS, array, resolve
from score_sde.data.sources import Dataset, Source, digits
from score_sde.data.spec import Spec
from score_sde.data.text import text_file
from score_sde.data.waves import waves
from score_sde.data.xyz import xyz
from score_sde.devices.parallel import Pmap, Sharded, Strategy
from score_sde.experiment.score_networks import NETWORKS as NETWORKS
from score_sde.names import FRAMES
from score_sde.objectives import denoising, masked, score_matching, variational
from score_sde.objectives.masked import Schedule
from score_sde.scores import parametrization
from score_sde.scores.divergence import Coloured, Divergence, Exact, Gaussian, Rademacher
from score_sde.scores.gamma_label import GammaLabel
from score_sde.scores.subspace import Subspace
from score_sde.sde import chain
from score_sde.solvers import grids, reference
from score_sde.systems.autoencoder import DECODER, ENCODER
from score_sde.systems.first_stage import CRITIC
from score_sde.systems.latent import LEFT_OUT, MIXING
from score_sde.systems.score import Objective
from score_sde.training import curriculum as curricula
from score_sde.training import ema
from score_sde.training.curriculum import Curriculum
from score_sde.training.optimizer import Optimizer
from score_sde.typing import Array, Keys


def levels(config: Config) -> parametrization.Levels:
    """The discrete noise levels of the config's SDE."""
    return LEVELS[config.sde.name](config.sde.num_scales)


def optimizer(config: Config, part: str = "") -> Optimizer:
    """That of the config's `optimizer` section, for a part that its system may have fields of its own for."""
    fields = {name: value for name, value in config.optimizer.items() if name != "decay"}
    fields |= OWN_RATES.get((config.system.name, part), lambda c: {})(config)
    return Optimizer(**fields, decay_steps=DECAYS[config.optimizer.decay](config))


def reduction(config: Config) -> denoising.Reduction:
    """The mean over an example's elements, or half their sum."""
    return denoising.mean if config.training.reduce_mean else denoising.half_sum


def averages(config: Config) -> dict[str, ema.Average]:
    """The averages of the config's `ema` section by name, the main one first."""
    found = {name: average for kind in config.ema.averages for name, average in AVERAGES[kind](config).items()}
    assert tuple(found) == stored_names(config)
    return found


def curriculum(config: Config) -> Curriculum:
    """The steps of a consistency model's trajectories."""
    return CURRICULA[config.consistency.curriculum](config)


def _bound(config: Config) -> variational.BoundLoss:
    """The bound for 8-bit images."""
    return variational.BoundLoss(levels(config), variational.Discretized(-1.0 if config.data.centered else 0.0))


def objective(config: Config) -> Objective:
    """What the config's `training` section minimises."""
    c = config.training
    if c.objective in BOUNDS:
        bound = BOUNDS[c.objective](config)
        return Objective(lambda keys, model, sde, x0, u, space: bound(keys, model, sde, x0, u))
    options = {
        "weighting": WEIGHTINGS[c.weighting](config),
        "times": TIMES[c.times](config),
        "reduction": reduction(config),
        "objective": OBJECTIVES[c.objective](c),
    }

    def loss(keys: Keys, model: variational.Model, sde: sde.SDE, x0: Array, u: Array, space: Subspace | None) -> Array:
        return denoising.denoising_loss(keys, lambda x, t: model(x, t)[0], sde, x0, u=u, space=space, **options)

    # The other objectives differentiate the score forwards.
    return Objective(loss, backwards=c.objective in ("denoising", "absolute"))


def _points(data: Config, spec: Spec) -> kinds.Kind:
    assert spec.points is not None  # as of every spec of this kind
    return kinds.Points(spec.points.dimension, spec.mean, spec.std)


def mel(data: Config) -> Mel:
    """By what frames are computed of waveforms."""
    return Mel(data.rate, data.hop, data.n_fft, data.window, data.mels, data.mel_low, data.mel_high)


def _resolved(data: Config) -> Dataset:
    """The pictures of a `data` section that may lie in a folder, a zip file or a TFDS directory."""
    height, width, channels = picture_shape(data)
    form = Format(height, channels, CROPS.get(data.name, 0), width, data.max_pixels)
    cache, conditions, ranges = Cache(data.cache, data.cache_limit), tuple(data.condition), stored_ranges(data)
    return resolve(data.name, data.path, data.category, form, cache, data.workers, conditions, ranges)


SCHEDULES: dict[str, Callable[[Config], np.ndarray]] = {
    "linear": lambda c: chain.linear_betas(c.num_scales, c.beta_min, c.beta_max),
    "cosine": lambda c: chain.cosine_betas(c.num_scales),
    "polynomial": lambda c: chain.polynomial_betas(c.num_scales),
}
SDES: dict[str, Callable[[Config], sde.SDE]] = {
    "vp": lambda c: chain.vp_chain(SCHEDULES[c.schedule](c)) if c.discrete else sde.vp(c.beta_min, c.beta_max),
    "subvp": lambda c: sde.subvp(c.beta_min, c.beta_max),
    "ve": lambda c: sde.ve(c.sigma_min, c.sigma_max),
    "edm": lambda c: sde.karras(c.sigma_max),
    "straight": lambda c: sde.Straight(),
    "polynomial": lambda c: sde.polynomial(c.power),
    "linear_vp": lambda c: sde.LinearVP(),
    "cosine": lambda c: sde.cosine(),
}
LEVELS = {"vp": parametrization.vp_levels, "ve": parametrization.ve_levels}
PREDICTIONS: dict[str, Callable[[Config], parametrization.Prediction]] = {
    "noise": lambda c: parametrization.Noise(),
    "score": lambda c: parametrization.Score(),
    "denoiser": lambda c: parametrization.Denoiser(),
    "velocity": lambda c: parametrization.Velocity(),
    "difference": lambda c: parametrization.Difference(),
    "posterior_mean": lambda c: parametrization.PosteriorMean(c.sde.num_scales),
    "edm": lambda c: parametrization.Preconditioned(c.parametrization.sigma_data),
    "boundary": lambda c: parametrization.Boundary(c.parametrization.sigma_data, c.training.t_min),
}
LABELS: dict[str, Callable[[Config], parametrization.Label]] = {
    "time": lambda c: parametrization.time_label,
    "sigma": lambda c: parametrization.sigma_label,
    "log_sigma": lambda c: parametrization.log_sigma_label,
    "root_sigma": lambda c: parametrization.root_sigma_label,
    "level": levels,
    "alpha": lambda c: parametrization.alpha_label,
    "gamma": lambda c: GammaLabel(c.vdm.gamma_min, c.vdm.gamma_max),
}
OBJECTIVES: dict[str, Callable[[Config], denoising.Objective]] = {
    "denoising": lambda c: denoising.denoising,
    "absolute": lambda c: denoising.absolute,
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
    "velocity": lambda c: denoising.velocity,
    "difference": lambda c: denoising.difference,
    "truncated_snr": lambda c: denoising.truncated_snr,
    "denoiser": lambda c: denoising.denoiser,
    "edm": lambda c: denoising.EDM(c.parametrization.sigma_data),
}
TIMES: dict[str, Callable[[Config], denoising.Times]] = {
    "uniform": lambda c: denoising.UniformTimes(c.training.t_min),
    "likelihood": lambda c: denoising.LikelihoodTimes(c.training.t_min),
    "log_normal": lambda c: denoising.LogNormalTimes(c.training.p_mean, c.training.p_std),
    "levels": lambda c: denoising.LevelTimes(levels(c)),
    "between_levels": lambda c: denoising.BetweenLevels(c.training.t_min),
}
AVERAGES: dict[str, Callable[[Config], dict[str, ema.Average]]] = {
    "constant": lambda c: {"constant": ema.Constant(c.ema.decay)},
    "warmup": lambda c: {"warmup": ema.WarmedUp(c.ema.decay)},
    "half_life": lambda c: {"half_life": ema.HalfLife(c.ema.half_life, c.ema.rampup)},
    "power": lambda c: {power_name(std): ema.Power(std) for std in c.ema.power_stds},
    "scheduled": lambda c: {"scheduled": ema.Scheduled(c.ema.decay, c.consistency.first, curriculum(c))},
}
CURRICULA: dict[str, Callable[[Config], Curriculum]] = {
    "constant": lambda c: curricula.Unchanged(c.consistency.last),
    "root": lambda c: curricula.Root(c.consistency.first, c.consistency.last, c.training.num_steps),
    "doubling": lambda c: curricula.Doubling(c.consistency.first, c.consistency.last, c.training.num_steps),
}
OWN_RATES: dict[tuple[str, str], Callable[[Config], dict[str, float]]] = {
    ("adversarial", "critic"): lambda c: {
        "learning_rate": c.adversarial.critic_learning_rate,
        "beta1": c.adversarial.critic_beta1,
        "beta2": c.adversarial.critic_beta2,
    },
    ("vdm", "schedule"): lambda c: {"learning_rate": c.vdm.learning_rate},
    ("autoencoder", CRITIC): lambda c: {"start": c.autoencoder.critic_start},
    ("latent", ENCODER): lambda c: {"start": c.latent.prior_updates},
    ("latent", DECODER): lambda c: {"start": c.latent.prior_updates},
    ("latent", MIXING): lambda c: {"learning_rate": 0.0} if c.latent.mixing <= LEFT_OUT else {},
}
"""Fields of an optimizer that a part of a system has in the place of those for all."""
DECAYS: dict[str, Callable[[Config], int]] = {"none": lambda c: 0, "linear": lambda c: c.training.num_steps}
"""Updates in which the rate falls to 0, by optimizer.decay."""
MASKING: dict[str, Callable[[], Schedule]] = {
    "loglinear": masked.loglinear,
    "cosine": masked.cosine,
    "cosine_squared": masked.cosine_squared,
}
SKIPPING = {"stop": False, "skip": True}
"""Whether an update that is not finite is left out, by training.nonfinite."""
MISSING = {"refuse": False, "mask": True}
"""Whether NaN stands for what is not there, by data.missing."""
STRATEGIES: dict[str, Callable[[Config], Strategy]] = {"pmap": lambda c: Pmap(), "sharded": lambda c: Sharded(c.fsdp)}
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
    "betas": lambda c, s: grids.of_betas(s, c.sampling.betas),
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
    "waves": lambda c: waves(c.path, c.length, c.rate, mel(c) if FRAMES in c.condition else None),
    "digits": lambda c: digits(c.image_size),
    "digit_pairs": lambda c: digit_pairs(),
    "array": lambda c: array(c.path, tuple(c.condition), Cache(c.cache, c.cache_limit), tuple(c.shape)),
    "text": lambda c: text_file(c.path, c.length, c.held_out),
    "xyz": lambda c: xyz(c.path),
    **dict.fromkeys(DECODED, _resolved),
}
KINDS: dict[str, Callable[[Config, Spec], kinds.Kind]] = {
    "bytes": lambda c, s: kinds.Bytes(c.random_flip, c.uniform_dequantization, c.centered),
    "real": lambda c, s: kinds.Real(c.random_flip, s.mean, s.std, s.missing is not None, space_rank(s.shape, s.rank)),
    "tokens": lambda c, s: kinds.Tokens(),
    "points": _points,
}
