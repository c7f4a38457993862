"""DDPM on CIFAR-10 under the sub-VP SDE.

python launch.py --config configs/subvp/cifar10_ddpm_continuous.py

Published: ODE FID 3.56, 3.05 bits/dim.
Cost: 35,218,947 parameters; 11.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpm, subvp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM under the sub-VP SDE."""
    config = cifar10()
    subvp(config)
    ddpm(config)
    return config
