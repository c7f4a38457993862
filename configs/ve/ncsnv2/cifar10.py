"""NCSNv2 on CIFAR-10: 232 noise levels, annealed Langevin dynamics.

python launch.py --config configs/ve/ncsnv2/cifar10.py

Cost: 33,970,563 parameters; 20.0 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ncsnv2, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSNv2 on the chain of 232 sigmas."""
    config = cifar10()
    ncsnv2(config, snr=0.176, steps=5)
    scales(config, 232)
    return config
