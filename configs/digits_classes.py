"""NCSN++ (VP) on the ten classes of the 8x8 handwritten digits: ask for one with --config.sampling.label.

python launch.py --config configs/digits_classes.py

Cost: 3 to 4 minutes on two CPU cores.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """digits.py with its labels, a tenth of them dropped, so that the network knows the digits without a class too."""
    config = digits()
    config.data.condition = ("label",)
    config.network.label_dropout = 0.1
    return config
