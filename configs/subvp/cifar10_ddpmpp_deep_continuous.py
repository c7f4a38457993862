"""DDPM++, deep, on CIFAR-10 under the sub-VP SDE: the best likelihood of these.

python launch.py --config configs/subvp/cifar10_ddpmpp_deep_continuous.py

Published: FID 2.41, IS 9.57, ODE FID 2.92, 2.99 bits/dim.
Cost: 106,632,579 parameters; 34.6 GFLOP per image and evaluation; 950k steps of batch 128.
"""

from configs.published import cifar10, ddpmpp, deep, subvp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ with twice the blocks."""
    config = cifar10()
    subvp(config)
    ddpmpp(config)
    deep(config)
    return config
