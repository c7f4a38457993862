"""NCSN++ (VP) on the handwritten digits brought down to 4x4 pixels: the first stage of a cascade.

python launch.py --config configs/digits_small.py

Cost: less than that of digits.py. Expected, of 1,000 samples: pixel Fréchet distance 0.05, 1-NN accuracy 0.68.
The second stage is digits_superres.py, shown what this one draws: --config.measurement.path=runs/digits_small.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """digits.py, of a quarter of the pixels."""
    config = digits()
    config.data.image_size = 4
    return config
