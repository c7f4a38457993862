"""DDPM++ on CIFAR-10 as EDM trains it, unconditional: preconditioned, log-normal noise, non-leaking augmentation.

python launch.py --config configs/edm/cifar10_ddpmpp.py

Published: FID 1.97, by Heun's method with 35 evaluations (Karras et al. 2022, table 2).
Cost: 55,733,891 parameters; 40.3 GFLOP per image and evaluation; 390k steps of batch 512 (200M images).
The network is Song et al.'s with three resolutions and a layer for the augmentation's labels. The loss is a
sum over pixels as in the release, so that Adam's eps is as small beside the gradients (of half the sum: as if theirs
were 2e-8; of the mean, 3e-5). Other than published, samples are drawn by Euler's method on a grid in log sigma.
"""

from configs.published import cifar10, ddpmpp, edm
from score_sde.config import Config


def get_config() -> Config:
    """DDPM++ told ln(sigma) / 4 by a positional embedding."""
    config = cifar10()
    edm(config)
    ddpmpp(config)
    return config
