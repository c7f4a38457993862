"""NCSN++ on CIFAR-10 under the continuous VE SDE.

python launch.py --config configs/ve/cifar10_ncsnpp_continuous.py

Published: FID 2.38, IS 9.83.
Cost: 62,758,915 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128; 0.20 s per step on 4 V100
(0.30 with steps_per_call=1).
"""

from configs.published import cifar10, ncsnpp, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ conditioned on sigma by Fourier features."""
    config = cifar10()
    ve(config)
    ncsnpp(config)
    return config
