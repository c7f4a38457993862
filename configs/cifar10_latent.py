"""A score of CIFAR-10's 16x16x3 latents, in the space of configs/cifar10_autoencoder.py's run.

python launch.py --config configs/cifar10_autoencoder.py
python launch.py --config configs/cifar10_latent.py

For accelerators. Published are scores of latents of 256x256 pictures (Rombach et al. 2022); there is none of CIFAR-10.
"""

from configs.published import cifar10
from score_sde.config import Config


def get_config() -> Config:
    """Their U-Net's levels and rate for unconditional pictures, on this house's DDPM++ and VP SDE."""
    config = cifar10()
    config.system.name = "latent"
    config.frozen.autoencoder = "runs/cifar10_autoencoder"
    config.network.update(nf=224, ch_mult=(1, 2, 3), num_res_blocks=2, attn_resolutions=(8, 4), dropout=0.0, fir=False)
    config.data.update(centered=True, uniform_dequantization=True)
    config.training.update(num_steps=500_000, batch_size=48, stratified=True, t_min=1e-4)
    config.optimizer.update(learning_rate=9.6e-5, warmup=10_000)
    config.sampling.update(solver="auto", num_steps=50)
    return config
