"""Configuration: the defaults, which are the schema, and every check that can be made before jax is imported."""

import difflib
import math
import pathlib
import runpy
import traceback
from typing import Any

from ml_collections import ConfigDict

from score_sde.errors import UsageError, require, require_increasing

Config = Any
"""A ConfigDict of the fields of `default`; they exist at run time alone, so type checkers know none of them."""


def default() -> Config:
    """Every field with its default; a config file changes what is different about it and returns the rest."""
    return ConfigDict(
        {
            "seed": 42,
            "sde": {"name": "vp", "beta_min": 0.1, "beta_max": 20.0, "sigma_min": 0.01, "sigma_max": 50.0},
            "network": {
                "name": "ncsnpp",
                "nf": 128,
                "ch_mult": (1, 2, 2, 2),
                "num_res_blocks": 4,
                "attn_resolutions": (16,),
                "dropout": 0.1,
                "resamp_with_conv": True,
                "conditional": True,
                "fir": True,
                "fir_kernel": (1, 3, 3, 1),
                "skip_rescale": True,
                "resblock_type": "biggan",
                "progressive": "none",
                "progressive_input": "none",
                "progressive_combine": "sum",
                "embedding_type": "positional",
                "init_scale": 0.0,
                "fourier_scale": 16.0,
                "scale_by_sigma": False,
                "nonlinearity": "swish",
            },
            "parametrization": {"prediction": "noise", "label": "time"},
            "data": {
                "name": "digits",
                "path": "",
                "image_size": 8,
                "num_channels": 1,
                "centered": True,
                "random_flip": False,
                "uniform_dequantization": False,
            },
            "training": {
                "num_steps": 1_300_000,
                "batch_size": 128,
                "steps_per_call": 1,
                "compute_dtype": "float32",
                "weighting": "simple",
                "times": "uniform",
                "stratified": False,
                "t_min": 1e-5,
                "reduce_mean": True,
            },
            "optimizer": {
                "learning_rate": 2e-4,
                "beta1": 0.9,
                "beta2": 0.999,
                "eps": 1e-8,
                "weight_decay": 0.0,
                "warmup": 5000,
                "grad_clip": 1.0,
            },
            "ema": {"decay": 0.9999, "warmup": False},
            "parallel": {"strategy": "pmap"},
            "sampling": {
                "solver": "euler_maruyama",
                "corrector": "none",
                "corrector_steps": 1,
                "snr": 0.16,
                "churn": 1.0,
                "num_steps": 1000,
                "times": "uniform",
                "t_min": 1e-3,
                "denoise": True,
                "rtol": 1e-5,
                "atol": 1e-5,
                "num_samples": 64,
                "batch_size": 64,
                "seed": 0,
            },
            "evaluation": {"final_samples": 0},
            "checkpoint": {"every": 10_000, "keep": 3},
            "logging": {"every": 50, "samples_every": 5000},
        }
    )


CHOICES = {
    "sde.name": ("vp", "subvp", "ve"),
    "network.name": ("ncsnpp",),
    "network.resblock_type": ("biggan", "ddpm"),
    "network.progressive": ("none", "output_skip", "residual"),
    "network.progressive_input": ("none", "input_skip", "residual"),
    "network.progressive_combine": ("sum", "cat"),
    "network.embedding_type": ("fourier", "positional"),
    "network.nonlinearity": ("swish", "relu", "elu", "lrelu"),
    "parametrization.prediction": ("noise", "score", "denoiser", "velocity"),
    "parametrization.label": ("time", "sigma"),
    "data.name": ("digits", "array"),
    "training.compute_dtype": ("float32", "bfloat16"),
    "training.weighting": ("simple", "likelihood"),
    "training.times": ("uniform", "likelihood"),
    "parallel.strategy": ("pmap",),
    "sampling.solver": ("euler_maruyama", "reverse_diffusion", "ancestral", "euler", "rk45"),
    "sampling.corrector": ("none", "langevin", "annealed_langevin"),
    "sampling.times": ("uniform", "quadratic", "log_snr"),
}

AT_LEAST_ONE = (
    "network.nf", "network.num_res_blocks", "data.image_size", "data.num_channels", "training.num_steps",
    "training.batch_size", "training.steps_per_call", "sampling.num_steps", "sampling.num_samples",
    "sampling.batch_size", "sampling.corrector_steps", "checkpoint.every", "checkpoint.keep", "logging.every",
)  # fmt: skip

POSITIVE = (
    "optimizer.learning_rate", "optimizer.eps", "training.t_min", "sampling.t_min", "sampling.snr", "sampling.rtol",
    "sampling.atol",
)  # fmt: skip

NOT_NEGATIVE = (
    "seed", "sampling.seed", "optimizer.weight_decay", "optimizer.warmup", "sampling.churn",
    "evaluation.final_samples", "logging.samples_every",
)  # fmt: skip

FRACTIONS = ("network.dropout", "optimizer.beta1", "optimizer.beta2", "ema.decay")

TYPES = {
    int: "an integer",
    float: "a finite number",
    bool: "True or False",
    str: "a string",
    tuple: "a tuple of integers",
}

FREE_ON_RESUME = (
    "training.num_steps", "training.batch_size", "training.steps_per_call", "parallel.", "sampling.", "likelihood.",
    "evaluation.", "checkpoint.", "logging.",
)  # fmt: skip


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"section.field": value} of a ConfigDict or nested dict; lists become tuples, as JSON loses the difference."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = tuple(value) if isinstance(value, list) else value
    return flat


SCHEMA = flatten(default())
"""Every field, an example of its type."""


def nearest(name: Any, names: Any, prefix: str = "") -> str:
    """A "did you mean" for a misspelt name, or the list of what there is."""
    close = difflib.get_close_matches(str(name), list(names), n=1)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    return f"choose from {', '.join(prefix + n for n in names)}" if len(names) < 20 else "see --help for all there are"


def require_field(name: str, prefix: str = "config.") -> None:
    """UsageError unless the name is a field's; the prefix is what the user writes before it."""
    require(name in SCHEMA, f"{prefix}{name} is not a config field: {nearest(name, SCHEMA, prefix)}")


def wrong_type(name: str, value: Any) -> str:
    """The complaint about a value that is not of its field's type."""
    example = SCHEMA[name]
    return f"{name}={value!r} is of the wrong type: give it {TYPES[type(example)]}, such as {example!r}"


def differing_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Names of the fields that differ between two flat configs and that resuming may not change."""
    names = sorted(old.keys() | new.keys())
    return [n for n in names if not n.startswith(FREE_ON_RESUME) and old.get(n) != new.get(n)]


def load(path: str) -> Config:
    """What the get_config of a config file returns; UsageError for anything that goes wrong in there."""
    require(pathlib.Path(path).is_file(), f"--config={path} is not a file: name one, such as configs/digits.py")
    try:
        get_config = runpy.run_path(path).get("get_config")
        require(callable(get_config), f"--config={path} has no get_config(): write one, as in configs/digits.py")
        config = get_config()  # pyright: ignore[reportOptionalCall]
    except UsageError:
        raise
    except Exception as error:  # a config file is a program: it may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or ["?"])[-1]
        raise UsageError(f"mend line {line} of {path}: {type(error).__name__}: {one_line(error)}") from None
    kind = type(config).__name__
    require(isinstance(config, ConfigDict), f"get_config() of {path} returned a {kind}: return a ConfigDict")
    return config


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


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
        config.sampling.solver != "rk45" or config.sampling.corrector == "none",
        f"sampling.corrector={config.sampling.corrector!r} does not go with the adaptive sampling.solver='rk45':"
        " set the corrector to 'none' or choose a fixed-grid solver",
    )
    require(
        config.optimizer.grad_clip != 0,
        "optimizer.grad_clip=0.0 would make every gradient zero: give it a norm above 0, or a negative number for none",
    )
    _check_label(config)
    _check_resolutions(config)
    _check_groups(config)


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


def _check_label(config: Config) -> None:
    network, label = config.network, config.parametrization.label
    if network.embedding_type == "fourier":
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
