"""NCSN++ on CIFAR-10 under the sub-VP SDE.

python launch.py --config configs/subvp/cifar10_ncsnpp_continuous.py

Cost: 62,693,251 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ncsnpp, subvp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ under the sub-VP SDE."""
    config = cifar10()
    subvp(config)
    ncsnpp(config)
    return config
