"""NCSN++ (sub-VP) on the embedded 8x8 handwritten digits.

python launch.py --config configs/digits_subvp.py
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """The VP run under the sub-VP SDE."""
    config = digits()
    config.sde.name = "subvp"
    return config
