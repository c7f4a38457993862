"""An autoencoder of CIFAR-10, 32x32 to 16x16x3 latents, for configs/cifar10_latent.py.

python launch.py --config configs/cifar10_autoencoder.py

For accelerators. Published are autoencoders of 256x256 pictures (Rombach et al. 2022); there is none of CIFAR-10.
"""

from configs.published import cifar10
from score_sde.config import Config


def get_config() -> Config:
    """Their KL autoencoder's width, blocks, losses and rate, at a factor of 2 in the place of 4 to 32.

    Without their perceptual term, which asks for the weights of another network.
    """
    config = cifar10()
    config.system.name = "autoencoder"
    config.network.update(name="convolutional", nf=128, ch_mult=(1, 2), num_res_blocks=2)
    config.vae.update(latent=(16, 16, 3), decoder_variance="constant_scalar")
    config.autoencoder.update(kl_weight=1e-6, critic_weight=0.5, critic_start=50_000, critic_nf=64, critic_levels=2)
    config.data.update(centered=True, uniform_dequantization=True)
    config.training.update(num_steps=200_000, batch_size=48)
    config.optimizer.update(learning_rate=2.16e-4, warmup=0, beta1=0.5, beta2=0.9, grad_clip=-1.0)
    config.sampling.update(solver="few_step", num_steps=1)
    config.logging.samples_every = 0
    return config
