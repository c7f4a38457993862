"""DDPM of Ho et al. 2020 on CelebA-HQ, 256x256, to import google/ddpm-celebahq-256 into.

python launch.py --config configs/diffusers/ddpm_celebahq_256.py --mode import --checkpoint ddpm-celebahq-256

Cost: 113,673,219 parameters. Its decoder attends after every residual block.
"""

from configs.published import ddpm_256, large, vp
from score_sde.config import Config


def get_config() -> Config:
    """The discrete chain of 1000 betas, ancestral sampling with the large variance."""
    config = large("celebahq")
    vp(config, "ancestral", discrete=True)
    ddpm_256(config)
    config.network.up_attention = "block"
    return config
