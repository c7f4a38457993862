"""NCSN++ on LSUN bedrooms, 256x256, under the continuous VE SDE.

python launch.py --config configs/ve/bedroom_ncsnpp_continuous.py

Cost: 65,574,549 parameters; 529 GFLOP per image and evaluation; 2.4M steps of batch 64.
"""

from configs.published import large, ncsnpp_256, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ for 256x256 images."""
    config = large("lsun", "bedroom")
    ve(config)
    ncsnpp_256(config)
    return config
