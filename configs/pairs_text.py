"""NCSN++ (VP) asked in words for two digits side by side: "three left of seven", from scratch, its words too.

python launch.py --config configs/pairs_text.py
python launch.py --config configs/pairs_text.py --mode sample --config.sampling.caption="three left of seven"

Cost: about 10 minutes of CPU time. benchmarks/composition.py: held-out pairs come out at 0.98 of what true ones give.
"""

from configs.digits import get_config as digits
from score_sde.config import Config


def get_config() -> Config:
    """digits.py on pictures of pairs, 8 x 16, which the pixels of the coarse level ask; a tenth of captions dropped."""
    config = digits()
    config.data.update(name="digit_pairs", height=8, width=16, condition=("caption",))
    config.network.update(text_resolutions=(4,), text_width=64, text_layers=2, text_heads=4, label_dropout=0.1)
    return config
