"""Every check of a config that can be made before jax is imported: what is wrong, its value, the remedy."""

import math
from typing import Any

from score_sde.config import SCHEMA, Config, flatten, nearest, require_field, wrong_type
from score_sde.config.architecture import check_network
from score_sde.config.averages import check_averages
from score_sde.config.sampling_checks import ADAPTIVE, check_reference, check_sampling
from score_sde.errors import require, require_increasing

CHOICES = {
    "sde.name": ("vp", "subvp", "ve", "edm"),
    "sde.schedule": ("linear", "cosine"),
    "network.name": ("ncsnpp", "ddpm", "ncsnv2_64", "ncsnv2_128", "ncsnv2_256", "ncsn"),
    "network.resblock_type": ("biggan", "ddpm"),
    "network.progressive": ("none", "output_skip", "residual"),
    "network.progressive_input": ("none", "input_skip", "residual"),
    "network.progressive_combine": ("sum", "cat"),
    "network.embedding_type": ("fourier", "positional"),
    "network.up_attention": ("level", "block"),
    "network.nonlinearity": ("swish", "relu", "elu", "lrelu"),
    "network.interpolation": ("bilinear", "nearest_neighbor"),
    "parametrization.prediction": ("noise", "score", "denoiser", "velocity", "posterior_mean", "edm"),
    "parametrization.label": ("time", "sigma", "level", "log_sigma", "root_sigma"),
    "data.name": ("digits", "array", "folder", "tfds", "cifar10", "svhn", "celeba", "lsun", "ffhq", "celebahq"),
    "training.compute_dtype": ("float32", "bfloat16"),
    "training.remat": ("none", "dots", "blocks"),
    "training.objective": (
        "denoising",
        "implicit",
        "sliced",
        "sliced_variance_reduced",
        "variational",
        "hybrid",
    ),
    "training.weighting": ("simple", "likelihood", "edm"),
    "training.times": ("uniform", "likelihood", "log_normal", "levels"),
    "training.nonfinite": ("stop", "skip"),
    "parallel.strategy": ("pmap", "sharded"),
    "sampling.solver": (
        "auto", "euler_maruyama", "reverse_diffusion", "ancestral", "euler", "heun", "edm", "ddim", "deis_2", "deis_3",
        "lms", "dpm_solver_2s", "dpm_solver_3s", "dpm_solver_2m", "dpm_solver_3m", "dpm_solver_pp_2s",
        "dpm_solver_pp_3s", "dpm_solver_pp_2s_ancestral", "dpm_solver_pp_2m", "dpm_solver_pp_3m",
        "dpm_solver_pp_2m_sde", "unipc_2", "unipc_3", "unipc_2_bh1", "unipc_3_bh1", "adams_2", "adams_3", "adams_4",
        "exponential_euler_maruyama", "sde_adams_2", "sde_adams_3", "rk45", "rk45_batch", "adaptive_sde",
        "none",
    ),
    "sampling.corrector": ("none", "langevin", "annealed_langevin"),
    "sampling.variance": ("small", "large", "learned"),
    "sampling.times": (
        "uniform", "quadratic", "power", "log_snr", "log_sigma", "karras", "edm_levels", "levels", "optimised",
    ),
    "likelihood.split": ("held_out", "train"),
    "likelihood.divergence": ("rademacher", "gaussian", "coloured", "exact"),
}  # fmt: skip

AT_LEAST_ONE = (
    "network.nf", "network.num_res_blocks", "data.image_size", "data.num_channels", "training.num_steps",
    "training.batch_size", "training.steps_per_call", "sampling.num_steps", "sampling.num_samples",
    "sampling.batch_size", "sampling.corrector_steps", "checkpoint.every", "checkpoint.keep", "logging.every",
    "training.projections", "training.microbatches", "ema.half_life",
    "likelihood.batch_size", "likelihood.probes", "likelihood.dequantizations",
)  # fmt: skip

POSITIVE = (
    "optimizer.learning_rate", "optimizer.eps", "training.t_min", "sampling.t_min", "sampling.snr", "sampling.rtol",
    "sampling.atol", "sampling.sde_rtol", "sampling.sde_atol", "sampling.rho", "sampling.s_noise",
    "training.bound_weight", "parametrization.sigma_data",
    "training.p_std",
    "likelihood.t_min", "likelihood.rtol", "likelihood.atol",
)  # fmt: skip

NOT_NEGATIVE = (
    "seed", "sampling.seed", "optimizer.weight_decay", "optimizer.warmup", "sampling.churn", "sampling.eta",
    "sampling.s_churn", "sampling.s_min", "sampling.s_max",
    "evaluation.final_samples", "evaluation.every", "evaluation.num_images", "logging.samples_every",
    "ema.snapshot_every", "checkpoint.keep_every", "parallel.fsdp", "training.max_skipped",
    "data.held_out", "data.workers", "data.cache_limit",
    "likelihood.num_images", "likelihood.bound_samples", "likelihood.seed",
)  # fmt: skip

PATHS = {
    "array": "an .npy or .npz file of uint8 images [N, H, W, C]",
    "folder": "a directory or a zip file of pictures",
    "tfds": "a builder of tensorflow_datasets, such as cifar10, or a directory that it prepared",
}
"""What data.path must name for a data.name."""

FRACTIONS = ("network.dropout", "optimizer.beta1", "optimizer.beta2", "ema.decay")


def validate(config: Config) -> None:
    """Raise UsageError for the first thing that is wrong with the config; imports nothing heavy."""
    flat = flatten(config)
    _check_types(flat)
    for name, choices in CHOICES.items():
        require(flat[name] in choices, f"{name}={flat[name]!r} is unknown: {nearest(flat[name], choices)}")
    for names, holds, rule in (
        (AT_LEAST_ONE, lambda v: v >= 1, "at least 1"),
        (POSITIVE, lambda v: v > 0, "positive"),
        (NOT_NEGATIVE, lambda v: v >= 0, "0 or more"),
        (FRACTIONS, lambda v: 0 <= v < 1, "in [0, 1)"),
    ):
        for name in names:
            require(holds(flat[name]), f"{name}={flat[name]} must be {rule}: give it another value")
    for name in ("seed", "sampling.seed", "likelihood.seed"):
        require(flat[name] < 2**32, f"{name}={flat[name]} has more than 32 bits: choose one below {2**32}")
    require(
        config.evaluation.final_samples != 1, "evaluation.final_samples=1 has no covariance: give it 0, or 2 or more"
    )
    require_increasing("sde.beta_min", config.sde.beta_min, "sde.beta_max", config.sde.beta_max)
    require_increasing("sde.sigma_min", config.sde.sigma_min, "sde.sigma_max", config.sde.sigma_max)
    for section in ("training", "sampling", "likelihood"):
        t_min = config[section].t_min
        final = config.sde.sigma_max if config.sde.name == "edm" else 1
        require(t_min < final, f"{section}.t_min={t_min} must be below the SDE's final time {final}: try 1e-3")
    require(
        config.parallel.fsdp == 1 or config.parallel.strategy == "sharded",
        f"parallel.fsdp={config.parallel.fsdp} has no effect on parallel.strategy={config.parallel.strategy!r}: set the"
        " strategy to 'sharded'",
    )
    require(
        config.training.batch_size % config.training.microbatches == 0,
        f"training.microbatches={config.training.microbatches} does not divide training.batch_size="
        f"{config.training.batch_size}: choose a divisor of it",
    )
    if config.data.name in PATHS:
        require(config.data.path, f"data.path is empty: name {PATHS[config.data.name]}")
    require(
        config.optimizer.grad_clip != 0,
        "optimizer.grad_clip=0.0 would make every gradient zero: give it a norm above 0, or a negative number for none",
    )
    check_sampling(config)
    _check_levels(config)
    _check_objective(config)
    check_reference(config)
    _check_edm(config)
    check_averages(config)
    _check_augmentation(config)
    check_network(config)


def check_likelihood(config: Config) -> None:
    """UsageError for a likelihood that means nothing, or settings of it without effect: for that mode alone."""
    c, sde = config.likelihood, config.sde
    require(
        config.network.name != "ncsn",
        "network.name='ncsn' jumps from one noise level's parameters to the next's, and likelihoods need the score at"
        " every time in between: choose a run of another network",
    )
    require(
        not (sde.discrete and sde.name == "vp") or c.t_min >= 1 / sde.num_scales,
        f"likelihood.t_min={c.t_min} lies below the least of the sde.num_scales={sde.num_scales} noise levels that the"
        f" network knows: set it to {1 / sde.num_scales} or more",
    )
    require(
        c.divergence != "coloured" or c.probes & (c.probes - 1) == 0,
        f"likelihood.probes={c.probes} is not a power of two, as likelihood.divergence='coloured' asks: try 4",
    )
    require(
        c.divergence != "exact" or c.probes == 1,
        f"likelihood.probes={c.probes} has no effect on likelihood.divergence='exact': set it to 1",
    )


def _check_types(flat: dict[str, Any]) -> None:
    for name in flat:
        require_field(name)
    for name, expected in SCHEMA.items():
        require(name in flat, f"{name} is missing from the config: build it from score_sde.config.default()")
        require(_is_like(flat[name], expected), wrong_type(name, flat[name]))


def _is_like(value: Any, example: Any) -> bool:
    """Whether a value is of the example's type; integers are numbers, and a tuple's elements are like the first."""
    kind = type(example)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        return False
    if kind is tuple:
        return all(_is_like(v, example[0]) for v in value)
    return kind is not float or math.isfinite(value)


def _check_levels(config: Config) -> None:
    """Discrete noise levels: who asks for them needs them, and which SDE has them."""
    c, label = config.sde, config.parametrization.label
    require(c.num_scales >= 2, f"sde.num_scales={c.num_scales} must be at least 2: the published models have 1000")
    asking = [
        f"{name}={value!r}"
        for name, value, choice in (
            ("parametrization.label", label, "level"),
            ("training.times", config.training.times, "levels"),
            ("sampling.times", config.sampling.times, "levels"),
            ("sde.schedule", c.schedule, "cosine"),
        )
        if value == choice
    ]
    has_none = c.name in ("subvp", "edm")
    remedy = f"which sde.name={c.name!r} has not: choose vp or ve" if has_none else "set sde.discrete=True"
    require(c.discrete or not asking, f"{' and '.join(asking)} asks for discrete noise levels: {remedy}")
    if not c.discrete:
        return
    require(
        not has_none,
        f"sde.discrete=True has no meaning for sde.name={c.name!r}, which was never a discrete chain: choose vp or ve",
    )
    require(
        label == "level" and config.training.times == "levels",
        f"sde.discrete=True does not go with parametrization.label={label!r} and training.times="
        f"{config.training.times!r}: set them to 'level' and 'levels'",
    )
    require(c.schedule == "linear" or c.name == "vp", f"sde.schedule={c.schedule!r} is VP's: set sde.schedule='linear'")
    require(
        c.name != "vp" or c.schedule != "linear" or c.beta_max < c.num_scales,
        f"sde.beta_max={c.beta_max} is not below sde.num_scales={c.num_scales}, which makes the last beta"
        " beta_max / num_scales 1 or more: raise num_scales",
    )
    steps = config.sampling.num_steps
    require(
        config.sampling.times != "levels" or steps <= c.num_scales,
        f"sampling.num_steps={steps} exceeds the sde.num_scales={c.num_scales} levels that sampling.times='levels'"
        " steps through: lower it",
    )


def _check_objective(config: Config) -> None:
    """What the variational objectives, the posterior mean and learned variances ask of the rest."""
    objective, learned = config.training.objective, config.parametrization.learned_variance
    prediction, bounds = config.parametrization.prediction, ("variational", "hybrid")
    for field, asks in (
        (f"training.objective={objective!r}", objective in bounds),
        (f"parametrization.prediction={prediction!r}", prediction == "posterior_mean"),
        (f"parametrization.learned_variance={learned}", learned),
    ):
        require(
            not asks or (config.sde.discrete and config.sde.name == "vp"),
            f"{field} belongs to DDPM's chain: set sde.name='vp' and sde.discrete=True",
        )
    require(
        not learned or objective in bounds,
        f"parametrization.learned_variance=True is not trained by training.objective={objective!r}: choose 'hybrid' or"
        " 'variational'",
    )
    require(
        not learned or config.network.name in ("ncsnpp", "ddpm"),
        f"network.name={config.network.name!r} has no second output for parametrization.learned_variance=True:"
        " choose ncsnpp or ddpm",
    )
    require(
        learned or config.sampling.variance != "learned",
        "sampling.variance='learned' needs a network that learned it: set parametrization.learned_variance=True",
    )
    require(
        not learned or not config.network.scale_by_sigma,
        "network.scale_by_sigma=True would divide the learned variance by sigma too: set it to False",
    )
    if objective not in bounds:
        return
    weighting = config.training.weighting
    require(
        objective != "variational" or weighting == "simple",
        f"training.weighting={weighting!r} has no effect on training.objective='variational', which is weighted as the"
        " bound is: set it to 'simple'",
    )
    require(
        config.training.reduce_mean,
        f"training.reduce_mean=False does not go with training.objective={objective!r}, whose bound is a mean over"
        " dimensions: set it to True",
    )
    require(
        not config.data.uniform_dequantization,
        f"data.uniform_dequantization=True does not go with training.objective={objective!r}, whose bound is on the"
        " probability of the bytes themselves: set it to False",
    )


def _check_edm(config: Config) -> None:
    """What means nothing where time is the noise level itself."""
    c, unchanged = config.sde, SCHEMA["sde.sigma_min"]
    if c.name != "edm":
        return
    require(
        c.sigma_min == unchanged,
        f"sde.sigma_min={c.sigma_min} has no effect on sde.name='edm', whose noise levels begin at 0: sampling ends at"
        f" sampling.t_min={config.sampling.t_min}, so set that, and leave sigma_min at {unchanged}",
    )
    far = f"up to sde.sigma_max={c.sigma_max}, nearly all of them far beyond the data"
    require(
        config.training.times != "uniform",
        f"training.times='uniform' under sde.name='edm' draws noise levels uniformly {far}: set it to 'log_normal' or"
        " 'likelihood'",
    )
    require(
        config.sampling.times != "uniform" or config.sampling.solver in (*ADAPTIVE, "auto"),
        f"sampling.times='uniform' under sde.name='edm' is a grid of noise levels {far}: set it to 'log_snr' or"
        " 'quadratic'",
    )


def _check_augmentation(config: Config) -> None:
    """That the augmentation has its labels read, and does not flip what is flipped already."""
    p, network = config.data.augmentation, config.network
    require(0 <= p <= 1, f"data.augmentation={p} is not a probability: give it a number in [0, 1], 0 for none")
    if not p:
        return
    require(
        not config.data.random_flip,
        f"data.random_flip=True would flip again what data.augmentation={p} flips: set random_flip=False",
    )
    require(
        network.name == "ncsnpp" and network.conditional,
        f"data.augmentation={p} leaks into the samples unless the network is told of it: set network.name='ncsnpp' and"
        " network.conditional=True",
    )
    objective = config.training.objective
    require(
        objective not in ("variational", "hybrid"),
        f"data.augmentation={p} does not go with training.objective={objective!r}, whose bound is on the probability of"
        " the bytes themselves: set it to 0.0",
    )
