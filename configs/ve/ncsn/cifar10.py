"""NCSN on CIFAR-10: 10 noise levels, 100 Langevin steps at each.

python launch.py --config configs/ve/ncsn/cifar10.py

Cost: 34,428,675 parameters; 20.1 GFLOP per image and evaluation; 1.3M steps of batch 128.
Corrected: the released file lacks num_classes; the network has one class for each of the 10 noise levels.
"""

from configs.published import cifar10, ncsn, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSN on the chain of 10 sigmas."""
    config = cifar10()
    ncsn(config, snr=0.316, steps=100)
    scales(config, 10)
    config.sde.sigma_max = 1.0
    return config
