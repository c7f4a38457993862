"""NCSN on CIFAR-10 with technique 5 of NCSNv2, the moving average.

python launch.py --config configs/ve/ncsn/cifar10_5.py

Cost: 34,428,675 parameters; 20.1 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 10 noise levels.
"""

from configs.ve.ncsn.cifar10 import get_config as cifar10
from score_sde.config import Config


def get_config() -> Config:
    """NCSN, its samples drawn with averaged weights."""
    config = cifar10()
    config.ema.decay = 0.999
    return config
