"""Experiments for the networks of the official goldens, and what the adapters' tests share."""

import json
from functools import cache
from typing import Any

from score_sde.adapters.layout import Layout, replay
from score_sde.config import Config, default
from score_sde.experiment import Experiment, build
from tests.golden_files import GOLDEN, load

JAX_FILE = GOLDEN / "song2021" / "ckpt_jax" / "checkpoint_5"
TORCH_FILE = GOLDEN / "song2021" / "ckpt_pt" / "checkpoint_1.pth"


def config_of(name: str) -> Config:
    """Our config of a golden's network; its images and schedule are not used."""
    official = json.loads(str(load(name)["config_json"]))
    config = default()
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in official.items() if k in config.network}
    config.network.update(fields)
    config.data.update(image_size=official["image_size"], num_channels=3, centered=official["centered"])
    if official["embedding_type"] == "fourier":
        config.sde.name = "ve"
        config.parametrization.update(prediction="score", label="sigma")
    return config


@cache
def experiment_of(name: str) -> Experiment:
    """The experiment of a golden's network."""
    return build(config_of(name))


def layout_of(experiment: Experiment) -> Layout:
    """The layout of an experiment's network; found once for each."""
    if experiment.system.network not in LAYOUTS:
        LAYOUTS[experiment.system.network] = replay(lambda: experiment.abstract_params()["score"])[0]
    return LAYOUTS[experiment.system.network]


LAYOUTS: dict[Any, Layout] = {}


def tiny(**network: Any) -> Experiment:
    """Tables A and B of the published trees: nf 8, two levels, one block, attention at 4, images of 8x8x3."""
    config = default()
    config.network.update({"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,), **network})
    config.data.update(image_size=8, num_channels=3)
    if network.get("embedding_type") == "fourier":
        config.sde.name = "ve"
        config.parametrization.update(prediction="score", label="sigma")
    return build(config)
