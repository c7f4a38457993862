"""DDPM's network on CIFAR-10 under SMLD's discrete VE chain.

python launch.py --config configs/ve/cifar10_ddpm.py

Cost: 35,218,947 parameters; 11.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpm, ve
from score_sde.config import Config


def get_config() -> Config:
    """DDPM's network on the chain of 1000 sigmas."""
    config = cifar10()
    ve(config, discrete=True)
    ddpm(config)
    return config
