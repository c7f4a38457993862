"""Every check of a config that can be made before jax is imported: what is wrong, its value, the remedy."""

import math
from typing import Any

from score_sde.config import SCHEMA, Config, flatten, nearest, require_field, wrong_type
from score_sde.errors import require, require_increasing

CHOICES = {
    "sde.name": ("vp", "subvp", "ve"),
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
    "parametrization.prediction": ("noise", "score", "denoiser", "velocity", "posterior_mean"),
    "parametrization.label": ("time", "sigma", "level"),
    "data.name": ("digits", "array", "cifar10", "celeba", "lsun", "ffhq", "celebahq"),
    "training.compute_dtype": ("float32", "bfloat16"),
    "training.objective": (
        "denoising",
        "implicit",
        "sliced",
        "sliced_variance_reduced",
        "variational",
        "hybrid",
    ),
    "training.weighting": ("simple", "likelihood"),
    "training.times": ("uniform", "likelihood", "levels"),
    "parallel.strategy": ("pmap",),
    "sampling.solver": ("euler_maruyama", "reverse_diffusion", "ancestral", "euler", "rk45", "none"),
    "sampling.corrector": ("none", "langevin", "annealed_langevin"),
    "sampling.variance": ("small", "large", "learned"),
    "sampling.times": ("uniform", "quadratic", "log_snr", "levels"),
}

_U_NET = (
    "nf", "ch_mult", "num_res_blocks", "attn_resolutions", "up_attention", "dropout", "resamp_with_conv", "conditional",
    "scale_by_sigma", "nonlinearity",
)  # fmt: skip
_REFINE_NET = ("nf", "nonlinearity", "interpolation", "scale_by_sigma")

NETWORK_FIELDS = {
    "ncsnpp": (
        *_U_NET, "fir", "fir_kernel", "skip_rescale", "resblock_type", "progressive", "progressive_input",
        "progressive_combine", "embedding_type", "init_scale", "fourier_scale",
    ),
    "ddpm": _U_NET,
    "ncsnv2_64": _REFINE_NET,
    "ncsnv2_128": _REFINE_NET,
    "ncsnv2_256": _REFINE_NET,
    "ncsn": _REFINE_NET,
}  # fmt: skip
"""The fields of `network` that each network reads; it ignores the others."""

AT_LEAST_ONE = (
    "network.nf", "network.num_res_blocks", "data.image_size", "data.num_channels", "training.num_steps",
    "training.batch_size", "training.steps_per_call", "sampling.num_steps", "sampling.num_samples",
    "sampling.batch_size", "sampling.corrector_steps", "checkpoint.every", "checkpoint.keep", "logging.every",
    "training.projections",
)  # fmt: skip

POSITIVE = (
    "optimizer.learning_rate", "optimizer.eps", "training.t_min", "sampling.t_min", "sampling.snr", "sampling.rtol",
    "sampling.atol", "training.bound_weight",
)  # fmt: skip

NOT_NEGATIVE = (
    "seed", "sampling.seed", "optimizer.weight_decay", "optimizer.warmup", "sampling.churn",
    "evaluation.final_samples", "logging.samples_every",
)  # fmt: skip

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
    for name in ("seed", "sampling.seed"):
        require(flat[name] < 2**32, f"{name}={flat[name]} has more than 32 bits: choose one below {2**32}")
    require(
        config.evaluation.final_samples != 1, "evaluation.final_samples=1 has no covariance: give it 0, or 2 or more"
    )
    require_increasing("sde.beta_min", config.sde.beta_min, "sde.beta_max", config.sde.beta_max)
    require_increasing("sde.sigma_min", config.sde.sigma_min, "sde.sigma_max", config.sde.sigma_max)
    for section in ("training", "sampling"):
        t_min = config[section].t_min
        require(t_min < 1, f"{section}.t_min={t_min} must be below the SDE's final time 1: try 1e-3")
    if config.data.name == "array":
        require(config.data.path, "data.path is empty: name an .npy or .npz file of uint8 images [N, H, W, C]")
    require(
        config.sampling.solver != "none" or config.sampling.corrector != "none",
        "sampling.solver='none' with sampling.corrector='none' does nothing: choose a solver, or a corrector to go with"
        " 'none', such as 'annealed_langevin'",
    )
    require(
        config.sampling.solver != "rk45" or config.sampling.corrector == "none",
        f"sampling.corrector={config.sampling.corrector!r} does not go with the adaptive sampling.solver='rk45':"
        " set the corrector to 'none' or choose a fixed-grid solver",
    )
    require(
        config.optimizer.grad_clip != 0,
        "optimizer.grad_clip=0.0 would make every gradient zero: give it a norm above 0, or a negative number for none",
    )
    _check_levels(config)
    _check_objective(config)
    _check_reference(config)
    _check_network(config)


def _check_types(flat: dict[str, Any]) -> None:
    for name in flat:
        require_field(name)
    for name, expected in SCHEMA.items():
        require(name in flat, f"{name} is missing from the config: build it from score_sde.config.default()")
        value, kind = flat[name], type(expected)
        accepted = (int, float) if kind is float else kind
        right = isinstance(value, accepted) and isinstance(value, bool) == (kind is bool)
        if right and kind is tuple:
            right = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        if right and kind is float:
            right = math.isfinite(value)
        require(right, wrong_type(name, value))


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
    require(c.discrete or not asking, f"{' and '.join(asking)} need discrete noise levels: set sde.discrete=True")
    if not c.discrete:
        return
    require(
        c.name != "subvp",
        "sde.discrete=True has no meaning for sde.name='subvp', which was never a discrete chain: choose vp or ve",
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
    weighting = config.training.weighting
    require(
        objective != "variational" or weighting == "simple",
        f"training.weighting={weighting!r} has no effect on training.objective='variational', which is weighted as the"
        " bound is: set it to 'simple'",
    )


def _check_reference(config: Config) -> None:
    """What the official sampler can do, and that its grid is its table."""
    c, sde = config.sampling, config.sde
    if not c.reference:
        return
    remedy = "set sampling.reference=False for it"
    require(
        c.solver in ("euler_maruyama", "reverse_diffusion", "ancestral", "rk45", "none"),
        f"sampling.solver={c.solver!r} is not among the official code's: {remedy}",
    )
    require(
        c.solver != "ancestral" or sde.name != "subvp",
        f"the official code has no ancestral sampling for sde.name='subvp': {remedy}",
    )
    require(
        c.solver != "rk45" or not sde.discrete or sde.name != "ve",
        "the official ODE sampler tells sigma to a network that was trained on levels (sde.discrete=True with"
        f" sde.name='ve'), which means nothing to it: {remedy}",
    )
    trained = {"vp": ("noise", "time"), "subvp": ("noise", "time"), "ve": ("score", "sigma")}[sde.name]
    expected = (trained[0], "level") if sde.discrete else trained
    found = (config.parametrization.prediction, config.parametrization.label)
    require(
        found == expected,
        f"parametrization.prediction and label are {found}, and the official networks of sde.name={sde.name!r} have"
        f" {expected}: {remedy}",
    )
    require(c.churn in (0, 1), f"sampling.churn={c.churn}: the official code knows 0 (the ODE) and 1 alone: {remedy}")
    require(
        not config.parametrization.learned_variance and sde.schedule == "linear",
        f"learned variances and the cosine schedule came after the official code: {remedy}",
    )
    require(
        c.solver == "rk45" or not sde.discrete or c.num_steps == sde.num_scales,
        f"sampling.num_steps={c.num_steps} is not sde.num_scales={sde.num_scales}, and the official sampler steps"
        " through all levels: give them one value",
    )


def _check_network(config: Config) -> None:
    """That the named network can be built."""
    name = config.network.name
    if name in ("ncsnpp", "ddpm"):
        _check_label(config)
        _check_resolutions(config)
        _check_groups(config)
        return
    halvings = {"ncsn": 1, "ncsnv2_64": 1, "ncsnv2_128": 2, "ncsnv2_256": 3}[name]
    size, multiple = config.data.image_size, 2**halvings
    require(
        size % multiple == 0,
        f"data.image_size={size} cannot be halved {halvings} times, as network.name={name!r} asks: use a multiple of"
        f" {multiple}",
    )
    require(
        name != "ncsn" or config.parametrization.label == "level",
        "network.name='ncsn' has a row of parameters per noise level: set sde.discrete=True,"
        " parametrization.label='level' and training.times='levels'",
    )


def _check_label(config: Config) -> None:
    network, label = config.network, config.parametrization.label
    if network.name == "ncsnpp" and network.embedding_type == "fourier":
        require(
            label == "sigma",
            f"parametrization.label={label!r} does not suit network.embedding_type='fourier', "
            "which takes the logarithm of sigma: set parametrization.label='sigma'",
        )


def _check_resolutions(config: Config) -> None:
    size, levels = config.data.image_size, len(config.network.ch_mult)
    require(levels >= 1, "network.ch_mult=() has no level: give one multiplier per resolution, such as (1, 2)")
    require(all(m >= 1 for m in config.network.ch_mult), f"network.ch_mult={config.network.ch_mult} must be positive")
    require(
        size % 2 ** (levels - 1) == 0,
        f"data.image_size={size} cannot be halved {levels - 1} times, as the {levels} entries of network.ch_mult"
        f" ask: use a multiple of {2 ** (levels - 1)} or fewer entries",
    )
    resolutions = [size >> i for i in range(levels)]
    for resolution in config.network.attn_resolutions:
        require(
            resolution in resolutions,
            f"network.attn_resolutions contains {resolution}, which never occurs: choose from {resolutions}",
        )
    kernel = config.network.fir_kernel
    require(len(kernel) >= 1 and sum(kernel) != 0, f"network.fir_kernel={kernel} needs entries whose sum is not zero")


def _check_groups(config: Config) -> None:
    if config.network.name == "ddpm":
        widths = [config.network.nf * m for m in config.network.ch_mult]
        require(
            all(width % 32 == 0 for width in widths),
            f"network.nf={config.network.nf} with ch_mult={config.network.ch_mult} makes layers of {widths} channels,"
            " which network.name='ddpm' normalises in 32 groups: use an nf that is a multiple of 32",
        )
        return
    for channels in _normalised_channels(config.network):
        groups = min(channels // 4, 32)
        require(
            groups > 0 and channels % groups == 0,
            f"network.nf={config.network.nf} with ch_mult={config.network.ch_mult} makes a layer of {channels}"
            f" channels, which GroupNorm cannot divide into min(channels // 4, 32) = {groups} groups:"
            " use an nf that is a multiple of 4, of 32 above 128 channels",
        )


def _normalised_channels(network: Config) -> list[int]:
    """The channel counts that NCSN++ normalises, its skip connections included, in order."""
    widths = [network.nf * m for m in network.ch_mult]
    doubled = network.progressive_input == "input_skip" and network.progressive_combine == "cat"
    skips, seen = [network.nf], []
    for level, width in enumerate(widths):
        for _ in range(network.num_res_blocks):
            seen += [skips[-1], width]
            skips.append(width)
        if level < len(widths) - 1:
            skips.append(2 * width if doubled else width)
    current = skips[-1]
    for width in reversed(widths):
        for _ in range(network.num_res_blocks + 1):
            seen += [current + skips.pop(), width]
            current = width
    return seen
