"""The tiny experiment with a shallow network, for processes whose run is the point, and not what it trains."""

from score_sde.config import Config
from score_sde.experiment import objects
from tests.tiny import tiny_config
from tests.training.small import Shallow

NETWORKS = {"ncsnpp": lambda c, s: Shallow()}
"""In the place of the one that tests/tiny.py names."""


def get_config() -> Config:
    objects.NETWORKS.update(NETWORKS)
    return tiny_config()
