"""Variational diffusion on the embedded 8x8 handwritten digits: bits per dimension of the bytes themselves.

python launch.py --config configs/digits_vdm.py
python launch.py --config configs/digits_vdm.py --mode likelihood

Cost: 6 minutes of CPU time, 3 to 6 minutes on two idle cores. Expected, of the 297 held-out images: 1.99 bits/dim.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """The VP run's network, shown waves from the length of a step between the 17 grey values to that of a byte."""
    config = digits()
    config.system.name = "vdm"
    config.vdm.update(learned="ends", fourier=(3, 5, 7), learning_rate=1e-2)
    config.parametrization.label = "gamma"
    config.training.num_steps = 1200
    config.optimizer.decay = "linear"
    config.likelihood.dequantizations = 64
    config.evaluation.final_samples = 0
    config.logging.samples_every = 0
    return config
