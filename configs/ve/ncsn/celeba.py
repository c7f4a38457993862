"""NCSN on CelebA, 64x64: 10 noise levels, 100 Langevin steps at each.

python launch.py --config configs/ve/ncsn/celeba.py

Cost: 34,428,675 parameters; 84.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 10 noise levels; it also
sets training.loss where the code reads training.sde.
"""

from configs.published import celeba, ncsn, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on the chain of 10 sigmas."""
    config = celeba()
    ncsn(config, snr=0.316, steps=100)
    scales(config, 10)
    config.sde.sigma_max = 1.0
    return config
