"""DDPM++ on CIFAR-10 under the continuous VP SDE, shown grey pictures, to which it finds colours.

python launch.py --config configs/restoration/cifar10_colourisation.py

Cost: as vp/cifar10_ddpmpp_continuous.py, which it is but for one more channel of x. As Palette (Saharia et al. 2022)
asks for it; the network is trained on no other task.
"""

from configs.vp.cifar10_ddpmpp_continuous import get_config as unconditional
from score_sde.config import Config


def get_config() -> Config:
    """The unconditional one, shown grey values."""
    config = unconditional()
    config.degradation.name = "gray"
    return config
