"""NCSN++ on CIFAR-10 as EDM trains it, told the ten classes: no label is dropped, and the null label is zero.

python launch.py --config configs/edm/cifar10_ncsnpp_conditional.py

Published: FID 1.79, by Heun's method with 35 evaluations (Karras et al. 2022, table 2).
Cost: 56,400,771 parameters; 40.4 GFLOP per image and evaluation; 390k steps of batch 512 (200M images).
As cifar10_ncsnpp.py, with a layer for the class. What it says of no class is what that layer's bias says: it was never
trained, so classifier-free guidance needs --config.network.label_dropout=0.1 and a training of its own.
"""

from configs.edm.cifar10_ncsnpp import get_config as unconditional
from configs.published import conditional
from score_sde.config import Config


def get_config() -> Config:
    """The unconditional one, with labels."""
    return conditional(unconditional())
