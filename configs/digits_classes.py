"""NCSN++ (VP) on the ten classes of the 8x8 handwritten digits: ask for one with --config.sampling.label.

python launch.py --config configs/digits_classes.py

Cost: 4 minutes on two CPU cores. Expected, of 1,000 samples: pixel Fréchet distance 0.31, 1-NN accuracy 0.58; of 100
of each class, 99 % are given the class that was asked by a classifier of real digits.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """digits.py with its labels, a tenth of them dropped, so that the network knows the digits without a class too."""
    config = digits()
    config.data.condition = ("label",)
    config.network.label_dropout = 0.1
    return config
