"""NCSN++, deep, on CIFAR-10 under the sub-VP SDE.

python launch.py --config configs/subvp/cifar10_ncsnpp_deep_continuous.py

Cost: 107,521,411 parameters; 34.7 GFLOP per image and evaluation; 950k steps of batch 128.
"""

from configs.published import cifar10, deep, ncsnpp, subvp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ with twice the blocks."""
    config = cifar10()
    subvp(config)
    ncsnpp(config)
    deep(config)
    return config
