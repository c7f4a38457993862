"""NCSN++ (VE) on the embedded 8x8 handwritten digits: the scaled score, conditioned on sigma by Fourier features.

python launch.py --config configs/digits_ve.py

Cost: 3 to 4 minutes on two CPU cores. Expected, of 1,000 samples: pixel Fréchet distance 0.47, 1-NN accuracy 0.63.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """The VP run under the VE SDE, its largest sigma about the largest distance between two digits."""
    config = digits()
    config.sde.update(name="ve", sigma_min=0.01, sigma_max=16.0)
    config.network.update(embedding_type="fourier", fourier_scale=16.0, scale_by_sigma=True)
    config.parametrization.update(prediction="score", label="sigma")
    config.sampling.t_min = 1e-5
    return config
