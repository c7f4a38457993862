"""NCSN++ on CIFAR-10 under the continuous VP SDE.

python launch.py --config configs/vp/cifar10_ncsnpp_continuous.py

Cost: 62,693,251 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ncsnpp, vp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ with continuous times, sampled by Euler-Maruyama."""
    config = cifar10()
    vp(config, "euler_maruyama")
    ncsnpp(config)
    return config
