"""DDPM on CIFAR-10, the network not told the noise level.

python launch.py --config configs/vp/ddpm/cifar10_unconditional.py

Cost: 32,329,347 parameters; 11.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.vp.ddpm.cifar10 import get_config as cifar10
from score_sde.config import Config


def get_config() -> Config:
    """DDPM without its embedding of the noise level."""
    config = cifar10()
    config.network.conditional = False
    return config
