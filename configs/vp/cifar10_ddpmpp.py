"""DDPM++ on CIFAR-10 under the discrete VP chain, ancestral sampling.

python launch.py --config configs/vp/cifar10_ddpmpp.py

Published: FID 2.78, IS 9.64.
Cost: 61,804,419 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ddpmpp, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ on the chain of 1000 betas."""
    config = cifar10()
    vp(config, "ancestral", discrete=True)
    ddpmpp(config)
    return config
