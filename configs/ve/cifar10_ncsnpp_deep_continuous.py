"""NCSN++, deep, on CIFAR-10 under the continuous VE SDE: the best FID of these.

python launch.py --config configs/ve/cifar10_ncsnpp_deep_continuous.py

Published: FID 2.20, IS 9.89.
Cost: 107,587,075 parameters; 34.7 GFLOP per image and evaluation; 950k steps of batch 128.
"""

from configs.published import cifar10, deep, ncsnpp, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ with twice the blocks."""
    config = cifar10()
    ve(config)
    ncsnpp(config)
    deep(config)
    return config
