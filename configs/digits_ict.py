"""A consistency model of the digits, trained without a teacher and without an average in its target.

python launch.py --config configs/digits_ict.py

Cost: about 8 minutes on two CPU cores. Expected, of 1,000 samples by one evaluation: pixel Fréchet distance 0.47, 1-NN
accuracy 0.66.
"""

from configs.digits_edm import get_config as digits_edm
from score_sde.config import Config


def get_config() -> Config:
    """Improved consistency training (Song & Dhariwal 2023) on the network of EDM's run."""
    config = digits_edm()
    config.system.name = "consistency"
    config.parametrization.prediction = "boundary"
    config.consistency.update(levels="log_normal", metric="pseudo_huber", huber=0.03, over_gap=True)
    config.consistency.update(curriculum="doubling", first=10, last=160)
    config.training.update(num_steps=2400, weighting="denoiser", t_min=0.002, p_mean=-0.8, p_std=1.6)
    config.optimizer.update(learning_rate=1e-3)
    config.sampling.update(solver="few_step", num_steps=1)
    return config
