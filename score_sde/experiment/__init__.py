"""From a validated config to an experiment, and what is done with one."""

from score_sde.experiment.building import build
from score_sde.experiment.experiment import Experiment
from score_sde.experiment.resolving import load_data

load_images = load_data
"""The name of before, when all data were images."""

__all__ = ["Experiment", "build", "load_data", "load_images"]
