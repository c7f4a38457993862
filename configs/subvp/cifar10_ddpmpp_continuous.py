"""DDPM++ on CIFAR-10 under the sub-VP SDE.

python launch.py --config configs/subvp/cifar10_ddpmpp_continuous.py

Published: FID 2.61, IS 9.56, ODE FID 3.16, 3.02 bits/dim.
Cost: 61,804,419 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpmpp, subvp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ under the sub-VP SDE."""
    config = cifar10()
    subvp(config)
    ddpmpp(config)
    return config
