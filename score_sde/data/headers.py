"""What the headers of a fixed sample of pictures tell: how much of each is cropped, and which have further frames."""

import io
import math
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from score_sde.data.account import Looks, lost
from score_sde.data.folder import Folder
from score_sde.data.pictures import FORMATS, Files, Format, pillow

if TYPE_CHECKING:
    from PIL.Image import Image

LOOKED = 500
"""Pictures looked at, at most."""

BUDGET = 2**26
"""Bytes read for it, at most, where headers cannot be read alone."""

ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)
"""EXIF's tag, and its values of pictures that lie on their side."""


def look(files: Files, form: Format) -> Looks:
    """What a fixed choice of the pictures' headers say; what cannot be read is left to whoever decodes it."""
    shares, ratios, frames, spent = [], Counter(), Counter(), 0
    for index in np.random.RandomState(0).permutation(len(files))[:LOOKED].tolist():
        if spent > BUDGET:
            break
        with suppress(Exception):  # a decoder raises whatever it likes
            height, width, further, size = _header(files, index)
            shares.append(lost((height, width), form.shape[:2]))
            common = math.gcd(height, width)
            ratios[height // common, width // common] += 1
            frames.update([further] if further else [])
            spent += size
    if not shares:
        return Looks(0)
    return Looks(
        len(shares), 0.0 if form.crop else sum(shares) / len(shares), ratios.most_common(1)[0][0], dict(frames)
    )


def _header(files: Files, index: int) -> tuple[int, int, str, int]:
    """Height and width the right way up, the format if there are frames beyond the first, and the bytes read."""
    if isinstance(files, Folder):
        with pillow().open(files.name(index), formats=FORMATS) as image:
            return (*_sides(image), _further(image), 0)
    content = files.read(index)
    if isinstance(content, np.ndarray):
        return content.shape[0], content.shape[1], "", content.nbytes
    with pillow().open(io.BytesIO(content), formats=FORMATS) as image:
        return (*_sides(image), _further(image), len(content))


def _sides(image: "Image") -> tuple[int, int]:
    turned = "exif" in image.info and image.getexif().get(ORIENTATION) in SIDEWAYS
    return image.size if turned else (image.height, image.width)


def _further(image: "Image") -> str:
    return str(image.format) if getattr(image, "is_animated", False) else ""
