"""NCSN on CIFAR-10 with techniques 1, 2, 4 and 5 of NCSNv2: noise levels, Langevin steps, moving average.

python launch.py --config configs/ve/ncsn/cifar10_1245.py

Cost: 44,828,931 parameters; 20.1 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 232 noise levels.
"""

from configs.ve.ncsn.cifar10_124 import get_config as cifar10_124
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on 232 sigmas, its samples drawn with averaged weights."""
    config = cifar10_124()
    config.ema.decay = 0.999
    return config
