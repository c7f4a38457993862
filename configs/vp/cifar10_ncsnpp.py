"""NCSN++ on CIFAR-10 under the discrete VP chain, sampled by reverse diffusion.

python launch.py --config configs/vp/cifar10_ncsnpp.py

Cost: 62,693,251 parameters; 20.3 GFLOP per image and evaluation; 1.3M steps of batch 128.
"""

from configs.published import cifar10, ncsnpp, vp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ on the chain of 1000 betas."""
    config = cifar10()
    vp(config, "reverse_diffusion", discrete=True)
    ncsnpp(config)
    return config
