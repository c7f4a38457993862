"""What diffusers' schedulers say of a training, in our fields; written and read back; what none of ours means."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest

from score_sde.adapters import scheduler
from score_sde.config import Config, default, load
from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment.objects import SDES

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = ("diffusers/ddpm_cifar10_32", "ve/church_ncsnpp_continuous", "vp/cifar10_ddpmpp_continuous")


def config_of(name: str) -> Config:
    return load(str(ROOT / "configs" / f"{name}.py"))


def file_of(folder: pathlib.Path, settings: dict[str, Any]) -> pathlib.Path:
    file = folder / scheduler.FILE
    file.write_text(json.dumps(settings))
    return file


def refused(folder: pathlib.Path, config: Config, **settings: Any) -> str:
    with pytest.raises(UsageError) as error:
        scheduler.check(file_of(folder, settings), config)
    return str(error.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_the_config(name: str, tmp_path: pathlib.Path) -> None:
    config = config_of(name)
    assert not list(scheduler.reasons(config))
    scheduler.check(file_of(tmp_path, scheduler.settings(config)), config)


def test_the_scheduler_of_ho_et_al(tmp_path: pathlib.Path) -> None:
    """As google/ddpm-cifar10-32 has it; its betas are the chain's."""
    config = config_of(CONFIGS[0])
    theirs = {"_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
              "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None}  # fmt: skip
    scheduler.check(file_of(tmp_path, theirs), config)
    betas = 1 - np.exp(-np.diff(SDES["vp"](config.sde).integral))  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(betas, np.linspace(0.0001, 0.02, 1000), rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings", "fields"),
    [
        (0, {"beta_schedule": "squaredcos_cap_v2"}, {"sde.schedule": "cosine"}),
        (0, {"prediction_type": "v_prediction"}, {"parametrization.prediction": "velocity"}),
        (0, {"prediction_type": "sample"}, {"parametrization.prediction": "denoiser"}),
        (0, {"beta_end": 0.03}, {"sde.beta_max": 30.0}),
        (
            0,
            {"num_train_timesteps": 500},
            {"sde.num_scales": 500, "sde.beta_min": 0.05, "sde.beta_max": 10.0, "sampling.num_steps": 500},
        ),
        (0, {"trained_betas": list(np.linspace(0.001, 0.02, 1000))}, {"sde.beta_min": 1.0}),
        (0, {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "beta_start": 0.0002}, {"sde.beta_min": 0.2}),
        (1, {"_class_name": "ScoreSdeVeScheduler", "sigma_max": 1348.0}, {"sde.sigma_max": 1348.0}),
        (1, {"_class_name": "ScoreSdeVeScheduler"}, {"sde.sigma_max": 1348.0}),
        (
            2,
            {"_class_name": "ScoreSdeVpScheduler", "num_train_timesteps": 1000, "beta_max": 25.0},
            {"sde.beta_max": 25.0},
        ),
        (
            2,
            {"_class_name": "DDPMScheduler"},
            {"sde.discrete": True, "parametrization.label": "level", "training.times": "levels"},
        ),
    ],
)
def test_the_remedy_is_a_config_that_passes(
    name: int, settings: dict[str, Any], fields: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    """Every field that differs is named at once, and a config with them is valid and not refused."""
    config, file = config_of(CONFIGS[name]), file_of(tmp_path, settings)
    with pytest.raises(UsageError) as error:
        scheduler.check(file, config)
    remedy = str(error.value).rpartition(": set ")[2]
    assert remedy == ", ".join(f"{field}={value!r}" for field, value in fields.items())
    for field, value in fields.items():
        section, field = field.split(".")
        config[section][field] = value
    scheduler.check(file, config)
    validate(config)


@pytest.mark.parametrize(
    "settings",
    [
        {"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"},
        {"_class_name": "DDPMScheduler", "prediction_type": "flow_prediction"},
        {"_class_name": "DDPMScheduler", "trained_betas": [0.1, 0.3, 0.9]},
        {"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True},
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000},
        {"_class_name": "ScoreSdeVpScheduler"},
    ],
)
def test_what_no_config_means(settings: dict[str, Any], tmp_path: pathlib.Path) -> None:
    said = refused(tmp_path, config_of(CONFIGS[0]), **settings)
    assert "which no config here means: this model cannot be imported as it was trained" in said


def test_a_damaged_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / scheduler.FILE
    for text in ("", "[]", '{"trained_betas": 3}', "\x00"):
        file.write_text(text)
        with pytest.raises(UsageError, match="cannot be read as the config of a diffusers scheduler"):
            scheduler.check(file, config_of(CONFIGS[0]))


def test_where_it_lies(tmp_path: pathlib.Path) -> None:
    unet, file = tmp_path / "model" / "unet", tmp_path / "model" / "scheduler" / scheduler.FILE
    for folder in (unet, file.parent):
        folder.mkdir(parents=True)
    assert scheduler.find(unet) is None
    file.touch()
    assert scheduler.find(unet) == scheduler.find(tmp_path / "model") == file
    (unet / scheduler.FILE).touch()
    assert scheduler.find(unet) == unet / scheduler.FILE
    assert scheduler.find(file.parent.parent / "scheduler") == file  # it lies beside itself
    (tmp_path / scheduler.FILE).touch()
    assert scheduler.find(tmp_path / "model") == file  # and not what lies around a model


def test_what_no_scheduler_means() -> None:
    config = default()
    assert not list(scheduler.reasons(config))
    config.sde.name = "subvp"
    assert "sde.name='subvp'" in next(scheduler.reasons(config))
    config.sde.update(name="ve", discrete=True)
    found = " ".join(scheduler.reasons(config))
    for said in ("sde.discrete=True", "parametrization.prediction='noise'", "parametrization.label='time'"):
        assert said in found
