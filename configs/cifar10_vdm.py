"""Variational diffusion on CIFAR-10, without augmentation: bits per dimension by learned ends of the schedule.

python launch.py --config configs/cifar10_vdm.py
python launch.py --config configs/cifar10_vdm.py --mode likelihood

Published: 2.65 bits/dim (Kingma et al. 2021), 2.637 by their code.
Cost: 30,586,245 parameters, all at full resolution; 10M steps of batch 128, for accelerators.
"""

from configs.published import cifar10
from score_sde.config import Config


def get_config() -> Config:
    """32 residual blocks and 33, nothing down-sampled, attention in the middle alone, as in the published code.

    Its network differs from DDPM's of this house in that it adds z to its output, and that the noise level enters every
    block without a bias. The code's weight decay spares biases, here it does not.
    """
    config = cifar10()
    config.system.name = "vdm"
    config.data.random_flip = False
    config.vdm.update(learned="ends", fourier=(6, 7), learning_rate=2e-4)
    config.network.update(name="ddpm", ch_mult=(1,), num_res_blocks=32, attn_resolutions=(), dropout=0.1)
    config.parametrization.label = "gamma"
    config.training.update(num_steps=10_000_000, stratified=True)
    config.optimizer.update(warmup=100, beta2=0.99, weight_decay=0.01, grad_clip=-1.0)
    config.sampling.update(solver="ancestral", num_steps=1000, times="uniform", t_min=1e-5)
    return config
