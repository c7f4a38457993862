"""Encoded pictures (PNG, JPEG, ...) as a source of uint8 images: decoded when they are asked for, by Pillow."""

import dataclasses
import io
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from score_sde.data.account import Account
from score_sde.errors import UsageError, require

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "GIF", "TIFF", "WEBP")
"""Of these files, as Pillow calls them: its other decoders, some of them rarely used, never see a file."""

MODES = {1: "L", 3: "RGB"}


class Files(Protocol):
    """Encoded pictures by number; picklable, and safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call the picture in an error."""
        ...

    def read(self, index: int) -> bytes | np.ndarray:
        """The bytes of its file, or uint8 [H, W, C] where it was stored as an array."""
        ...

    def stamp(self) -> list:
        """JSON-able facts that change when the pictures do: paths, sizes, times of modification."""
        ...


def state(path: str) -> tuple[int, int]:
    """Size and time of modification (ns) of a file; UsageError where it has gone or is a link to nothing."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): put it back or take it away") from None
    return status.st_size, status.st_mtime_ns


class Encoded(NamedTuple):
    """Pictures to train on and held-out ones (perhaps none), with int32 labels [N] and class names where known."""

    train: Files
    held_out: Files
    labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    account: Account = Account()


@dataclasses.dataclass(frozen=True)
class Format:
    """What every picture becomes: uint8 [height, width, channels], of its centre, cropped to that ratio of sides.

    width: 0 for a square. crop: the cropped part's shorter side is at most so many pixels (0: as many as there are).
    """

    height: int
    channels: int
    crop: int = 0
    width: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """[H, W, C] of one image."""
        return (self.height, self.width or self.height, self.channels)

    @property
    def size(self) -> int:
        """The longer side."""
        return max(self.shape[:2])

    def check(self) -> None:
        """UsageError for a number of channels that pictures do not have."""
        require(
            self.channels in MODES,
            f"data.num_channels={self.channels}: pictures are read as 1 (grey) or 3 (RGB), so choose one of these",
        )


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Encoded pictures as a source of images: `pictures[indices]` is uint8 [n, height, width, channels]."""

    files: Files
    format: Format

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, C] of all images."""
        return (len(self.files), *self.format.shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.format.shape), np.uint8)
        for image, index in zip(images, indices.tolist()):
            image[:] = decode(self.files.read(index), self.format, self.files.name(index))
        return images


def decode(encoded: bytes | np.ndarray, form: Format, name: str) -> np.ndarray:
    """uint8 [height, width, channels] of an encoded picture, the right way up (EXIF), of an animation its first frame.

    Raises UsageError, naming the picture, where it cannot be decoded.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        is_array = isinstance(encoded, np.ndarray)
        with _from_array(encoded) if is_array else Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            image.load()
            if image.info:  # where EXIF is, if there is any: looking costs as much as decoding a small picture
                ImageOps.exif_transpose(image, in_place=True)
            image = center_crop_resize(convert(image, form.channels), *form.shape[:2], form.crop)
            return np.asarray(image).reshape(form.shape)
    except Exception as error:  # a decoder raises whatever it likes over a broken file
        unknown = isinstance(error, UnidentifiedImageError)  # it says "<_io.BytesIO object at 0x7f...>"
        reason = f"it is no {', '.join(FORMATS)}" if unknown else str(error).split("\n")[0] or type(error).__name__
        raise UsageError(f"{name} cannot be decoded ({reason}): mend it or put another in its place") from None


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def convert(image: "Image", channels: int) -> "Image":
    """The picture in grey ("L", Rec. 601 luma) or RGB; what is transparent lies over white, 16 bits become 8.

    Sixteen-bit grey is divided by 257 and rounded (Pillow's own conversion would clip at 255). Raises ValueError for
    pixels of unknown range: floating-point numbers, and integers that 16 bits do not hold.
    """
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode.startswith("I"):
        pixels = np.asarray(image)  # of mode "I", 32 bits, which 16-bit files too have in some versions of Pillow
        if not 0 <= pixels.min() <= pixels.max() <= 65535:
            raise ValueError(f"its pixels are {pixels.min()} to {pixels.max()}, which 16 bits do not hold")
        image = Image.fromarray(np.round(pixels / 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def center_crop_resize(image: "Image", height: int, width: int, crop: int = 0) -> "Image":
    """The largest centred part of a picture with this ratio of sides, resized to height x width.

    crop: the part's shorter side is at most so many pixels (0: as many as there are). Bicubic (a = -1/2) with the
    kernel widened by the scale, so that shrinking does not alias, rounded and clipped to 0..255: the arithmetic
    published for LSUN, which rings less than Lanczos and keeps more than a box. A picture of the right size is not
    touched.
    """
    from PIL import Image

    wide, tall = _largest(image.width, image.height, width, height, crop)
    left, top = (image.width - wide) // 2, (image.height - tall) // 2
    if (wide, tall) != image.size:
        image = image.crop((left, top, left + wide, top + tall))
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _largest(wide: int, tall: int, width: int, height: int, crop: int) -> tuple[int, int]:
    """Width and height of the largest part of wide x tall pixels whose sides are as width to height; 1 or more."""
    scale = min(wide / width, tall / height)
    if crop:
        scale = min(scale, crop / min(width, height))
    return max(1, min(wide, round(width * scale))), max(1, min(tall, round(height * scale)))
