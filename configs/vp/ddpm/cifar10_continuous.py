"""DDPM on CIFAR-10 under the continuous VP SDE.

python launch.py --config configs/vp/ddpm/cifar10_continuous.py

Published: ODE FID 3.69, 3.21 bits/dim.
Cost: 35,218,947 parameters; 11.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpm, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM with continuous times, sampled by Euler-Maruyama."""
    config = cifar10()
    vp(config, "euler_maruyama")
    ddpm(config)
    return config
