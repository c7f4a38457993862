"""ADM's network on the thousand classes of ImageNet at 64x64 as EDM trains it: preconditioned, noise levels log-normal.

python launch.py --config configs/edm/imagenet64_adm.py

Cost: 295,899,267 parameters. The network of edm-imagenet-64x64-cond-adm.pkl (Karras et al. 2022, table 7). Other than
published, samples are drawn by Euler's method on a grid in log sigma.
"""

from configs.published import edm
from score_sde.config import Config, default


def get_config() -> Config:
    """EDM's settings for ImageNet, which drop out a tenth and do not augment."""
    config = default()
    edm(config)
    config.network.update(
        name="dhariwal", nf=192, ch_mult=(1, 2, 3, 4), num_res_blocks=3, attn_resolutions=(32, 16, 8), dropout=0.1
    )
    config.data.update(name="folder", path="imagenet64.zip", image_size=64, num_channels=3, augmentation=0.0)
    config.data.update(condition=("label",), num_classes=1000)
    config.training.update(num_steps=610_352, batch_size=4096)
    config.optimizer.update(learning_rate=1e-4, warmup=2441)
    config.ema.update(half_life=50_000_000)
    return config
