"""Progressive distillation of digits_velocity.py: students of 8, 4, 2 and 1 steps, each in a folder of its own.

python launch.py --config configs/digits_distilled.py --config.frozen.teacher=runs/digits_velocity

Cost: 6 minutes on two CPU cores, of all phases. Expected, of 1,000 samples in one step: pixel Fréchet distance 0.39,
1-NN accuracy 0.65; the others: docs/few_steps.md.
"""

from configs.digits_velocity import get_config as digits_velocity
from score_sde.config import Config


def get_config() -> Config:
    """The teacher's network and schedule, the published loss, a rate that falls to 0 in every phase."""
    config = digits_velocity()
    config.system.name = "distilled"
    config.frozen.teacher = "runs/digits_velocity"
    config.distillation.steps = (8, 4, 2, 1)
    config.training.update(weighting="truncated_snr", num_steps=250)
    config.optimizer.update(warmup=0, decay="linear", learning_rate=1e-3)
    config.ema.decay = 0.95
    config.sampling.update(solver="few_step", times="uniform")
    return config
