"""NCSNv2 on CelebA, 64x64: 500 noise levels, annealed Langevin dynamics.

python launch.py --config configs/ve/ncsnv2/celeba.py

Cost: 33,970,563 parameters; 84.1 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import celeba, ncsnv2, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSNv2 on the chain of 500 sigmas."""
    config = celeba()
    ncsnv2(config, snr=0.128, steps=5)
    scales(config, 500)
    return config
