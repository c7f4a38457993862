"""DDPM of Ho et al. 2020 on CIFAR-10, to import google/ddpm-cifar10-32 into.

python launch.py --config configs/diffusers/ddpm_cifar10_32.py --mode import --checkpoint ddpm-cifar10-32

Cost: 35,746,307 parameters. Its decoder attends after every residual block.
"""

from configs.published import cifar10, ddpm, vp
from score_sde.config import Config


def get_config() -> Config:
    """The discrete chain of 1000 betas, ancestral sampling with the large variance."""
    config = cifar10()
    vp(config, "ancestral", discrete=True)
    ddpm(config)
    config.network.up_attention = "block"
    return config
