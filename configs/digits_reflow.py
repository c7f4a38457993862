"""Rectified flow on digits: the noise and the samples of digits_edm joined by straight lines, for samples in one step.

python launch.py --config configs/digits_edm.py
python launch.py --config configs/digits_reflow.py

Cost: 3 to 4 minutes on two CPU cores, pairs included, beside the teacher's. Expected, of 1,000 samples in one step:
pixel Fréchet distance 0.31, 1-NN accuracy 0.63; in four 0.27, 0.59.
"""

from configs.digits_edm import get_config as digits_edm
from score_sde.config import Config


def get_config() -> Config:
    """The teacher's network from its weights: its denoiser is one of straight lines too, at another time."""
    config = digits_edm()
    config.system.name = "reflow"
    config.sde.name = "straight"
    config.frozen.teacher = config.training.start_from = "runs/digits_edm"
    config.training.update(weighting="difference", p_mean=2.0, p_std=2.0, num_steps=600)
    config.optimizer.update(learning_rate=1e-3, warmup=50, decay="linear")
    config.sampling.update(solver="few_step", num_steps=1, t_min=1e-3)
    config.likelihood.t_min = 1e-5
    config.checkpoint.every = config.logging.samples_every = 300
    return config
