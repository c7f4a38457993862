"""NCSN on CelebA, 64x64, with techniques 1, 2 and 4 of NCSNv2: its 500 noise levels and its Langevin steps.

python launch.py --config configs/ve/ncsn/celeba_124.py

Cost: 57,384,195 parameters; 84.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 500 noise levels.
"""

from configs.published import celeba, ncsn, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on the chain of 500 sigmas."""
    config = celeba()
    ncsn(config, snr=0.128, steps=5)
    scales(config, 500)
    return config
