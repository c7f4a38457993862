"""NCSN++ on CelebA, 64x64, under SMLD's discrete VE chain.

python launch.py --config configs/ve/celeba_ncsnpp.py

Cost: 62,693,251 parameters; 81.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import celeba, ncsnpp, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ on the chain of 1000 sigmas."""
    config = celeba()
    ve(config, discrete=True)
    ncsnpp(config)
    return config
