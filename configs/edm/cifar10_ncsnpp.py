"""NCSN++ on CIFAR-10 as EDM trains it, unconditional: preconditioned, log-normal noise, non-leaking augmentation.

python launch.py --config configs/edm/cifar10_ncsnpp.py

Published: FID 1.98, by Heun's method with 35 evaluations (Karras et al. 2022, table 2).
Cost: 56,397,955 parameters; 40.4 GFLOP per image and evaluation; 390k steps of batch 512 (200M images).
The network is Song et al.'s with three resolutions and a layer for the augmentation's labels. The loss is a
sum over pixels as in the release, so that Adam's eps is as small beside the gradients (of half the sum: as if theirs
were 2e-8; of the mean, 3e-5). Other than published, samples are drawn by Euler's method on a grid in log sigma.
"""

from configs.published import cifar10, edm, ncsnpp
from score_sde.config import Config


def get_config() -> Config:
    """NCSN++ told sigma^(1/4), whose logarithm its Fourier embedding takes."""
    config = cifar10()
    edm(config)
    ncsnpp(config)
    config.network.embedding_type = "fourier"
    config.parametrization.label = "root_sigma"
    return config
