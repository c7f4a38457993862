"""DDPM on CIFAR-10: the discrete chain of Ho et al. 2020, ancestral sampling.

python launch.py --config configs/vp/ddpm/cifar10.py

Published: FID 3.24, ODE FID 3.37, 3.28 bits/dim.
Cost: 35,218,947 parameters; 11.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpm, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM on the chain of 1000 betas."""
    config = cifar10()
    vp(config, "ancestral", discrete=True)
    ddpm(config)
    return config
