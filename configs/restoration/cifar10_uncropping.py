"""DDPM++ on CIFAR-10 under the continuous VP SDE, shown the middle of pictures, around which it paints the rest.

python launch.py --config configs/restoration/cifar10_uncropping.py

Cost: as vp/cifar10_ddpmpp_continuous.py, which it is but for three more channels of x. The middle is a quarter of the
picture, 16x16 pixels; as Palette (Saharia et al. 2022) asks for it, without noise.
"""

from configs.vp.cifar10_ddpmpp_continuous import get_config as unconditional
from score_sde.config import Config


def get_config() -> Config:
    """The unconditional one, shown the middle half of height and width."""
    config = unconditional()
    config.degradation.name = "uncrop"
    return config
