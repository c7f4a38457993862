"""A score of MNIST's 28x28 pixels, to hold configs/mnist_latent.py's samples against.

python launch.py --config configs/mnist_pixels.py --config.data.path=mnist.npz
"""

from configs.mnist_latent import get_config as latent
from score_sde.config import Config


def get_config() -> Config:
    """The latent run's, but for the space and the network's levels."""
    config = latent()
    config.system.name = "score"
    config.frozen.autoencoder = ""
    config.network.update(nf=32, ch_mult=(1, 2, 2), num_res_blocks=1, attn_resolutions=(7,))
    return config
