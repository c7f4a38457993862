"""DDPM++ on CIFAR-10 under the continuous VP SDE, shown 16x16 pictures, of which it makes 32x32 ones.

python launch.py --config configs/restoration/cifar10_superres.py

Cost: as vp/cifar10_ddpmpp_continuous.py, which it is but for three more channels of x and a layer for the level.
What is shown is down-sampled bicubically and noised at a level of every example's own, uniform over all times as Ho et
al. 2022 (cascades, section 4) have it, and told the network, so that the level at sampling is chosen after training:
--config.degradation.level=0.2 hides what an earlier stage got wrong (Saharia et al. 2022, Imagen, take 0.1 to 0.3).
Not trained to the end here; 1,000 steps on digits are too few for such levels (docs/conditioning.md).
"""

from configs.vp.cifar10_ddpmpp_continuous import get_config as unconditional
from score_sde.config import Config


def get_config() -> Config:
    """The unconditional one, shown pictures of half the height and width."""
    config = unconditional()
    config.degradation.update(name="bicubic", noise=1.0)
    return config
