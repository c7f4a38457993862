"""diffusers' scheduler_config.json: how a network of theirs was trained, compared with a config and written for one."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from score_sde.adapters.foreign import printable, reading
from score_sde.config import Config, flatten
from score_sde.errors import require

FILE = "scheduler_config.json"
VE, VP, CHAIN = "ScoreSdeVeScheduler", "ScoreSdeVpScheduler", "DDPMScheduler"
DEFAULTS: dict[str, dict[str, Any]] = {
    VE: {"sigma_min": 0.01, "sigma_max": 1348.0},
    VP: {"beta_min": 0.1, "beta_max": 20.0, "num_train_timesteps": 2000},
    CHAIN: {
        "num_train_timesteps": 1000,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "trained_betas": None,
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": False,
    },
}
"""What diffusers takes for what a file leaves out; of CHAIN for every class that has betas."""
SCHEDULES = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
"""Theirs -> sde.schedule; of ours the first that has it is written."""
PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "denoiser"}
PIPELINES = {CHAIN: "DDPMPipeline", VE: "ScoreSdeVePipeline"}
"""Of those that diffusers has a pipeline for."""

Fields = dict[str, Any]
"""{"sde.name": value}: what a config has to say to mean the same."""


def find(folder: pathlib.Path) -> pathlib.Path | None:
    """The file that belongs to a pipeline, or to the unet in one; None where there is none."""
    around = [folder, folder.parent] if folder.name in ("unet", "unet_ema") else [folder]
    places = [f / inner / FILE for f in around for inner in ("scheduler", "")]
    return next((place for place in places if place.is_file()), None)


def check(file: pathlib.Path, config: Config) -> None:
    """UsageError where the config says otherwise than the file, with the fields to set."""
    with reading(file, "the config of a diffusers scheduler"):
        wanted, here = fields(file, json.loads(file.read_text())), flatten(config)
        differing = {name: value for name, value in wanted.items() if not _same(here[name], value)}
    there = ", ".join(f"{name}={here[name]!r}" for name in differing)
    steps, levels = config.sampling.num_steps, wanted.get("sde.num_scales", config.sampling.num_steps)
    if differing and config.sampling.times == "levels" and steps > levels:
        differing["sampling.num_steps"] = levels
    require(
        not differing,
        f"{file} tells of another training than the config, which has {there}: set"
        f" {', '.join(f'{name}={value!r}' for name, value in differing.items())}",
    )


def fields(file: pathlib.Path, settings: dict[str, Any]) -> Fields:
    """What a config has to say to mean the same as the file; UsageError for what no config can."""
    kind = str(settings.get("_class_name", CHAIN))
    chain = kind not in (VE, VP)
    cannot = "which no config here means: this model cannot be imported as it was trained"
    require(
        not chain or kind == CHAIN or "beta_schedule" in settings,
        f"{file} is of {printable(kind)}, {cannot}",
    )
    there = DEFAULTS.get(kind, DEFAULTS[CHAIN]) | settings
    if kind == VE:
        return {"sde.name": "ve", "sde.discrete": False, "sde.sigma_min": there["sigma_min"],
                "sde.sigma_max": there["sigma_max"], "parametrization.prediction": "score"}  # fmt: skip
    if kind == VP:
        levels = there["num_train_timesteps"]
        require(levels == 1000, f"{file} has num_train_timesteps={levels}, where labels here go up to 999, {cannot}")
        return {"sde.name": "vp", "sde.discrete": False, "sde.beta_min": there["beta_min"],
                "sde.beta_max": there["beta_max"], "parametrization.prediction": "noise",
                "parametrization.label": "time"}  # fmt: skip
    return _chain(file, there, cannot)


def _chain(file: pathlib.Path, there: dict[str, Any], cannot: str) -> Fields:
    """Of a chain of betas. The continuous VP SDE is another: its labels lie between the levels."""
    levels, schedule, prediction = (there[n] for n in ("num_train_timesteps", "beta_schedule", "prediction_type"))
    if there["trained_betas"] is not None:
        given = np.asarray(there["trained_betas"], np.float64)
        levels, schedule, ends = len(given), "linear", (float(given[0]), float(given[-1]))
        linear = np.allclose(given, np.linspace(ends[0], ends[1], levels), rtol=1e-4)
        require(linear, f"{file} has trained_betas that are not linear, {cannot}")
        there = there | dict(zip(("beta_start", "beta_end"), ends))
    require(schedule in SCHEDULES, f"{file} has beta_schedule={schedule!r}, {cannot}")
    require(prediction in PREDICTIONS, f"{file} has prediction_type={prediction!r}, {cannot}")
    require(not there["rescale_betas_zero_snr"], f"{file} has rescale_betas_zero_snr=True, {cannot}")
    found = {"sde.name": "vp", "sde.discrete": True, "sde.num_scales": levels, "sde.schedule": SCHEDULES[schedule],
             "parametrization.prediction": PREDICTIONS[prediction], "parametrization.label": "level",
             "training.times": "levels"}  # fmt: skip
    if schedule == "linear":
        ends = {"sde.beta_min": there["beta_start"], "sde.beta_max": there["beta_end"]}
        found |= {field: float(f"{beta * levels:.9g}") for field, beta in ends.items()}
    return found


def settings(config: Config) -> dict[str, Any]:
    """What says in diffusers what the config does; None of its values is a field that `reasons` speaks of."""
    c = config.sde
    if c.name == "ve":
        sampler = {"snr": config.sampling.snr, "sampling_eps": 1e-5, "correct_steps": 1}
        levels = {"num_train_timesteps": c.num_scales, "sigma_min": c.sigma_min, "sigma_max": c.sigma_max}
        return {"_class_name": VE, **levels, **sampler}
    if not c.discrete:
        return {"_class_name": VP, "num_train_timesteps": 1000, "beta_min": c.beta_min, "beta_max": c.beta_max,
                "sampling_eps": 1e-3}  # fmt: skip
    back = lambda table, word: next(theirs for theirs, ours in table.items() if ours == word)
    return {
        "_class_name": CHAIN,
        "num_train_timesteps": c.num_scales,
        "beta_schedule": back(SCHEDULES, c.schedule),
        "beta_start": c.beta_min / c.num_scales,
        "beta_end": c.beta_max / c.num_scales,
        "trained_betas": None,
        "prediction_type": back(PREDICTIONS, config.parametrization.prediction),
        "variance_type": "fixed_large" if config.sampling.variance == "large" else "fixed_small",
        "clip_sample": False,
    }


def reasons(config: Config) -> Iterator[str]:
    """Every field for which no scheduler of theirs means what the config does."""
    c, p = config.sde, config.parametrization
    if c.name not in ("vp", "ve"):
        yield f"sde.name={c.name!r} (vp and ve have a scheduler there)"
    elif c.name == "ve" and c.discrete:
        yield "sde.discrete=True (of ve the continuous SDE has a scheduler there)"
    predictions = ("score",) if c.name == "ve" else tuple(PREDICTIONS.values()) if c.discrete else ("noise",)
    labels = "sigma" if c.name == "ve" else "level" if c.discrete else "time"
    if p.prediction not in predictions:
        yield f"parametrization.prediction={p.prediction!r} (there: {', '.join(predictions)})"
    if p.label != labels:
        yield f"parametrization.label={p.label!r} (there: {labels})"
    if p.learned_variance:
        yield "parametrization.learned_variance=True"


def _same(ours: Any, theirs: Any) -> bool:
    """Equality of settings; numbers were rounded when they were written."""
    if isinstance(ours, bool | str):
        return ours == theirs
    return bool(np.isclose(ours, theirs, rtol=1e-5))
