"""NCSN++, deep, on CIFAR-10 under the continuous VP SDE.

python launch.py --config configs/vp/cifar10_ncsnpp_deep_continuous.py

Cost: 107,521,411 parameters; 34.7 GFLOP per image and evaluation; 950k steps of batch 128.
"""

from configs.published import cifar10, deep, ncsnpp, vp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ with twice the blocks."""
    config = cifar10()
    vp(config, "euler_maruyama")
    ncsnpp(config)
    deep(config)
    return config
