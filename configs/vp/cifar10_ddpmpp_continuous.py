"""DDPM++ on CIFAR-10 under the continuous VP SDE.

python launch.py --config configs/vp/cifar10_ddpmpp_continuous.py

Published: FID 2.55, IS 9.58, ODE FID 3.93, 3.16 bits/dim.
Cost: 61,804,419 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpmpp, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ with continuous times, sampled by Euler-Maruyama."""
    config = cifar10()
    vp(config, "euler_maruyama")
    ddpmpp(config)
    return config
