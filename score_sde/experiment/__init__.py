"""From a validated config to an experiment, and what is done with one."""

from score_sde.experiment.experiment import Experiment as Experiment
from score_sde.experiment.experiment import build as build
from score_sde.experiment.experiment import load_images as load_images
