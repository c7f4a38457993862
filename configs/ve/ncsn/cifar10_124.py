"""NCSN on CIFAR-10 with techniques 1, 2 and 4 of NCSNv2: its 232 noise levels and its Langevin steps.

python launch.py --config configs/ve/ncsn/cifar10_124.py

Cost: 44,828,931 parameters; 20.1 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 232 noise levels.
"""

from configs.published import cifar10, ncsn, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on the chain of 232 sigmas."""
    config = cifar10()
    ncsn(config, snr=0.176, steps=5)
    scales(config, 232)
    return config
