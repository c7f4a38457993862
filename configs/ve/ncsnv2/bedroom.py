"""NCSNv2 on LSUN bedrooms, 128x128: 1086 noise levels, annealed Langevin dynamics.

python launch.py --config configs/ve/ncsnv2/bedroom.py

Cost: 83,445,379 parameters; 291 GFLOP per image and evaluation; 2.4M steps of batch 128.
Corrected: the released file misspells `continuous`, which leaves the discrete model in continuous time, where it
crashes.
"""

from configs.published import large, ncsnv2, scales
from score_sde.config import Config


def get_config() -> Config:
    """NCSNv2 with one more resolution on the chain of 1086 sigmas."""
    config = large("lsun", "bedroom")
    ncsnv2(config, snr=0.095, steps=3)
    scales(config, 1086)
    config.sde.sigma_max = 190.0
    config.network.name = "ncsnv2_128"
    config.data.image_size = 128
    config.training.batch_size = 128
    config.ema.decay = 0.9999
    config.sampling.batch_size = 64
    return config
