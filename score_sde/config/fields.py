"""Configuration: the defaults, which are the schema, and the reading of config files. What is valid: validation.py."""

import difflib
import pathlib
import runpy
import traceback
from typing import Any

from ml_collections import ConfigDict

from score_sde.errors import UsageError, require

Config = Any
"""A ConfigDict of the fields of `default`; they exist at run time alone, so type checkers know none of them."""


def default() -> Config:
    """Every field with its default; a config file changes what is different about it and returns the rest."""
    return ConfigDict(
        {
            "seed": 42,
            "sde": {
                "name": "vp",
                "beta_min": 0.1,
                "beta_max": 20.0,
                "sigma_min": 0.01,
                "sigma_max": 50.0,
                "discrete": False,
                "num_scales": 1000,
                "schedule": "linear",
            },
            "network": {
                "name": "ncsnpp",
                "nf": 128,
                "ch_mult": (1, 2, 2, 2),
                "num_res_blocks": 4,
                "attn_resolutions": (16,),
                "up_attention": "level",
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
                "interpolation": "bilinear",
            },
            "parametrization": {
                "prediction": "noise",
                "label": "time",
                "learned_variance": False,
                "sigma_data": 0.5,
            },
            "data": {
                "name": "digits",
                "path": "",
                "category": "",
                "held_out": 0,
                "workers": 0,
                "cache": "",
                "cache_limit": 8.0,
                "image_size": 8,
                "num_channels": 1,
                "centered": True,
                "random_flip": False,
                "uniform_dequantization": False,
                "augmentation": 0.0,
            },
            "training": {
                "num_steps": 1_300_000,
                "batch_size": 128,
                "steps_per_call": 1,
                "microbatches": 1,
                "compute_dtype": "float32",
                "remat": "none",
                "objective": "denoising",
                "projections": 1,
                "bound_weight": 1e-3,
                "weighting": "simple",
                "times": "uniform",
                "p_mean": -1.2,
                "p_std": 1.2,
                "stratified": False,
                "t_min": 1e-5,
                "reduce_mean": True,
                "nonfinite": "stop",
                "max_skipped": 10,
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
            "ema": {
                "averages": ("constant",),
                "decay": 0.9999,
                "half_life": 500_000,
                "rampup": 0.05,
                "power_stds": (0.05, 0.1),
                "snapshot_every": 0,
            },
            "parallel": {"strategy": "pmap", "fsdp": 1},
            "sampling": {
                "solver": "euler_maruyama",
                "corrector": "none",
                "corrector_steps": 1,
                "snr": 0.16,
                "churn": 1.0,
                "eta": 0.0,
                "s_churn": 40.0,
                "s_min": 0.05,
                "s_max": 50.0,
                "s_noise": 1.003,
                "variance": "small",
                "num_steps": 1000,
                "times": "uniform",
                "rho": 7.0,
                "t_min": 1e-3,
                "denoise": True,
                "reference": False,
                "rtol": 1e-5,
                "atol": 1e-5,
                "sde_rtol": 0.02,
                "sde_atol": 0.0078,
                "num_samples": 64,
                "batch_size": 64,
                "seed": 0,
                "average": "",
            },
            "likelihood": {
                "split": "held_out",
                "num_images": 0,
                "batch_size": 128,
                "divergence": "rademacher",
                "probes": 1,
                "dequantizations": 2,
                "bound_samples": 32,
                "t_min": 1e-5,
                "rtol": 1e-5,
                "atol": 1e-5,
                "seed": 0,
                "average": "",
            },
            "evaluation": {"every": 0, "num_images": 1024, "final_samples": 0},
            "checkpoint": {"every": 10_000, "keep": 3, "keep_every": 0},
            "logging": {"every": 50, "samples_every": 5000},
        }
    )


TYPES = {
    int: "an integer",
    float: "a finite number",
    bool: "True or False",
    str: "a string",
}
ELEMENTS = {int: "integers", float: "finite numbers", str: "strings"}
"""Those of a tuple, which are all of the type of the default's."""

FREE_ON_RESUME = (
    "training.num_steps", "training.batch_size", "training.steps_per_call", "training.microbatches",
    "training.remat", "training.nonfinite", "training.max_skipped", "parallel.", "sampling.", "likelihood.",
    "evaluation.", "checkpoint.", "logging.", "ema.snapshot_every",
    "data.workers", "data.cache", "data.cache_limit",
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
    return f"choose from {', '.join(prefix + n for n in names)}" if len(names) < 40 else "see --help for all there are"


def require_field(name: str, prefix: str = "config.") -> None:
    """UsageError unless the name is a field's; the prefix is what the user writes before it."""
    require(name in SCHEMA, f"{prefix}{name} is not a config field: {nearest(name, SCHEMA, prefix)}")


def wrong_type(name: str, value: Any) -> str:
    """The complaint about a value that is not of its field's type."""
    example = SCHEMA[name]
    several = isinstance(example, tuple)
    kind = f"a tuple of {ELEMENTS[type(example[0])]}" if several else TYPES[type(example)]
    return f"{name}={value!r} is of the wrong type: give it {kind}, such as {example!r}"


def differing_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Names of the fields that differ between two flat configs and that resuming may not change.

    A run without data.path, such as an imported one, has seen no images: those to train on are named later.
    """
    names = old.keys() | new.keys()
    names = {n for n in names if not n.startswith(FREE_ON_RESUME) and old.get(n) != new.get(n)}
    return sorted(names - {"data.path"} if old.get("data.path") == "" else names)


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
