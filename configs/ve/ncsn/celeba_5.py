"""NCSN on CelebA, 64x64, with technique 5 of NCSNv2, the moving average.

python launch.py --config configs/ve/ncsn/celeba_5.py

Cost: 34,428,675 parameters; 84.2 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 10 noise levels.
"""

from configs.ve.ncsn.celeba import get_config as celeba
from score_sde.config import Config


def get_config() -> Config:
    """NCSN, its samples drawn with averaged weights."""
    config = celeba()
    config.ema.decay = 0.999
    return config
