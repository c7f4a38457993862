"""NCSN++ on CelebA-HQ, 1024x1024, under the continuous VE SDE.

python launch.py --config configs/ve/celebahq_ncsnpp_continuous.py

Cost: 105,785,896 parameters; 498 GFLOP per image and evaluation; 2.4M steps of batch 8.
Corrected: the released file imports torch and lacks n_jitted_steps and the flags of the evaluation.
"""

from configs.published import large, ncsnpp_1024, ve
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ for 1024x1024 images, the loss summed over pixels."""
    config = large("celebahq")
    ve(config)
    ncsnpp_1024(config)
    return config
