"""A tiny NCSN++ (VE), the network of the recorded official checkpoints in tests/golden: an import tried in a minute.

python launch.py --config configs/tiny.py --mode import --checkpoint tests/golden/song2021/ckpt_jax/checkpoint_5

Cost: 12,287 parameters, trained for 5 steps: its samples show nothing.
"""

from configs.published import cifar10, ncsnpp, ve
from score_sde.config import Config


def get_config() -> Config:
    """VE NCSN++ for CIFAR-10, a thirtieth as wide, for images of 8x8."""
    config = cifar10()
    ve(config)
    ncsnpp(config)
    config.network.update(nf=4, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,))
    config.data.image_size = 8
    config.training.update(num_steps=15, batch_size=16)
    config.logging.every = 5
    config.sampling.num_steps = 50
    return config
