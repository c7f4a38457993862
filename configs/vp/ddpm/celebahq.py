"""DDPM on CelebA-HQ, 256x256: the discrete chain, ancestral sampling.

python launch.py --config configs/vp/ddpm/celebahq.py

Cost: 111,569,923 parameters; 491 GFLOP per image and evaluation; 2.4M steps of batch 64.
Corrected: the released file reads 1024x1024 records for its 256x256 network; here data.image_size says what is read.
"""

from configs.published import ddpm_256, large, vp
from score_sde.config import Config


def get_config() -> Config:
    """DDPM for 256x256 images on the chain of 1000 betas."""
    config = large("celebahq")
    vp(config, "ancestral", discrete=True)
    ddpm_256(config)
    return config
