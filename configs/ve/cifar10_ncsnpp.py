"""NCSN++ on CIFAR-10 under SMLD's discrete VE chain.

python launch.py --config configs/ve/cifar10_ncsnpp.py

Published: FID 2.45, IS 9.73.
Cost: 62,693,251 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128; 0.20 s per step on 4 V100
(0.30 with steps_per_call=1).
"""

from configs.published import cifar10, ncsnpp, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ on the chain of 1000 sigmas."""
    config = cifar10()
    ve(config, discrete=True)
    ncsnpp(config)
    return config
