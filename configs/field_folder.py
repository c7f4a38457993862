"""NCSN++ (VP) on a folder of .npy fields of which a part is missing: the law of what is there.

python benchmarks/field.py --land --write runs/fields && python launch.py --config configs/field_folder.py

Any folder of .npy files of one shape does, each a field [H, W] or [H, W, C] of even sides: --config.data.path=folder.
"""

from configs.field import get_config as field
from score_sde.config import Config


def get_config() -> Config:
    """As configs/field.py; NaN is what is not there."""
    config = field()
    config.data.update(path="runs/fields", missing="mask")
    return config
