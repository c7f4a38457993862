"""A hierarchical variational autoencoder on MNIST: two Markovian levels of 20 latents, else as mnist_vae.py.

python launch.py --config configs/mnist_hvae.py --config.data.path=mnist.npz

Cost: 3 minutes on two CPU cores. Expected, as of mnist_vae.py's 571: an ELBO of 577 nats, 5.8 +- 0.5 more on the same
pictures, 588 of 16 importance-weighted draws; the levels have 37 and 13 nats of KL.
"""

from configs.mnist_vae import get_config as vae
from score_sde.config import Config


def get_config() -> Config:
    """The KL terms rise for a sixth of the training, balanced, as the upper level dies without."""
    config = vae()
    config.system.name = "hierarchical"
    config.hierarchical.update(latents=(20, 20), balanced=True)
    config.vae.warmup = 1000
    config.sampling.num_steps = 2
    return config
