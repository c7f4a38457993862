"""DDPM++, deep, on CIFAR-10 under the continuous VP SDE.

python launch.py --config configs/vp/cifar10_ddpmpp_deep_continuous.py

Published: FID 2.41, IS 9.68, ODE FID 3.08, 3.13 bits/dim.
Cost: 106,632,579 parameters; 34.6 GFLOP per image and evaluation; 950k steps of batch 128.
"""

from configs.published import cifar10, ddpmpp, deep, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ with twice the blocks."""
    config = cifar10()
    vp(config, "euler_maruyama")
    ddpmpp(config)
    deep(config)
    return config
