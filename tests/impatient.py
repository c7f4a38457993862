"""The light experiment in processes that count one another as lost three times sooner, for tests that wait for it."""

from score_sde.config import Config
from score_sde.devices import distributed
from tests import light

LOST_AFTER = 10.0
"""Seconds without a sign of life."""


def get_config() -> Config:
    distributed.LOST_AFTER = LOST_AFTER
    return light.get_config()
