"""DDPM on LSUN bedrooms, 256x256: the discrete chain, ancestral sampling.

python launch.py --config configs/vp/ddpm/bedroom.py

Cost: 111,569,923 parameters; 491 GFLOP per image and evaluation; 2.4M steps of batch 64.
"""

from configs.published import ddpm_256, large, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM for 256x256 images on the chain of 1000 betas."""
    config = large("lsun", "bedroom")
    vp(config, "ancestral", discrete=True)
    ddpm_256(config)
    return config
