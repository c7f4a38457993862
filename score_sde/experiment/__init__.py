"""From a validated config to an experiment, and what is done with one."""

from score_sde.experiment.experiment import Experiment, build
from score_sde.experiment.resolving import load_data

__all__ = ["Experiment", "build", "load_data"]
