"""NCSN++ (sub-VP) on the embedded 8x8 handwritten digits.

python launch.py --config configs/digits_subvp.py

Cost: 3 to 4 minutes on two CPU cores. Expected, of 1,000 samples: pixel Fréchet distance 0.38, 1-NN accuracy 0.65.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """The VP run under the sub-VP SDE."""
    config = digits()
    config.sde.name = "subvp"
    return config
