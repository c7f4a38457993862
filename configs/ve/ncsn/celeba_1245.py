"""NCSN on CelebA, 64x64, with techniques 1, 2, 4 and 5 of NCSNv2: noise levels, Langevin steps, moving average.

python launch.py --config configs/ve/ncsn/celeba_1245.py

Cost: 57,384,195 parameters; 84.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 500 noise levels.
"""

from configs.ve.ncsn.celeba_124 import get_config as celeba_124
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on 500 sigmas, its samples drawn with averaged weights."""
    config = celeba_124()
    config.ema.decay = 0.999
    return config
