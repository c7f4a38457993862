"""A consistency model of the digits, trained without a teacher.

python launch.py --config configs/digits_ct.py

Cost: 6 minutes on two CPU cores. Expected, of 1,000 samples by one evaluation: pixel Fréchet distance 1.4, 1-NN
accuracy 0.91: of so few updates easy tuning (digits_ect.py) makes more, and improved training (digits_ict.py) too.
"""

from configs.digits_edm import get_config as digits_edm
from score_sde.config import Config


def get_config() -> Config:
    """Consistency training (Song et al. 2023) on the network of EDM's run.

    17 levels at last and a fast average: what is learnt at one level reaches the next in so few updates, or none.
    """
    config = digits_edm()
    config.system.name = "consistency"
    config.parametrization.prediction = "boundary"
    config.consistency.update(target="scheduled", metric="l2", curriculum="root", first=2, last=17)
    config.training.update(num_steps=1300, weighting="edm", t_min=0.002)
    config.ema.update(averages=("warmup", "scheduled"), decay=0.6)
    config.optimizer.update(learning_rate=1e-3, decay="linear")
    config.sampling.update(solver="few_step", num_steps=1)
    return config
