"""A consistency model of the digits in continuous time that starts at EDM's run and learns from it (sCM).

python launch.py --config configs/digits_edm.py
python launch.py --config configs/digits_scm.py

Cost: 5 minutes on two CPU cores, beside the EDM run's 4. Expected, of 1,000 samples by one evaluation: pixel Fréchet
distance 0.36, 1-NN accuracy 0.63.
"""

from configs.digits_edm import get_config as digits_edm
from score_sde.config import Config


def get_config() -> Config:
    """The limit of neighbouring times, by a forward-mode derivative of EDM's network (Lu & Song 2024)."""
    config = digits_edm()
    config.system.name = "consistency"
    config.training.start_from = "runs/digits_edm"
    config.consistency.update(levels="limit", metric="normalised", tangent_warmup=300)
    config.training.update(num_steps=900, weighting="simple", t_min=0.002, p_mean=-0.8, p_std=1.6)
    config.optimizer.update(learning_rate=1e-3, decay="linear")
    config.sampling.update(solver="few_step", num_steps=1)
    return config
