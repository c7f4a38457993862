"""Encoded pictures (PNG, JPEG, ...) as a source of uint8 images: decoded when they are asked for, by Pillow."""

import dataclasses
import io
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from score_sde.data.account import Account
from score_sde.data.ranges import PLAIN, Extremes, Ranges, scaled
from score_sde.errors import UsageError, require

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "GIF", "TIFF", "WEBP")
"""Of these files, as Pillow calls them: its other decoders, some of them rarely used, never see a file."""

MODES = {1: "L", 3: "RGB"}

DEEP = {**dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "uint16"), "I": "int32", "F": "float32"}
"""Pillow's modes of more than 8 bits, all of them grey, and the dtype of their values."""

MAX_PIXELS = 178_956_970
"""Where Pillow by itself takes a file for an attack on the memory."""


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

    def listing(self) -> list:
        """Of these the facts that stay when the files move."""
        ...


def state(path: str) -> tuple[int, int]:
    """Size and time of modification (ns) of a file; UsageError where it has gone or is a link to nothing."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): put it back or take it away") from None
    return status.st_size, status.st_mtime_ns


class Encoded(NamedTuple):
    """Pictures to train on and held-out ones (if any); int32 labels, class names, captions where they are known."""

    train: Files
    held_out: Files
    labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    account: Account = Account()
    captions: np.ndarray | None = None
    held_out_captions: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Format:
    """What every picture becomes: uint8 [height, width, channels], of its centre, cropped to that ratio of sides.

    width: 0 for a square. crop: the cropped part's shorter side is at most so many pixels (0: as many as there are).
    max_pixels: files of more are refused.
    """

    height: int
    channels: int
    crop: int = 0
    width: int = 0
    max_pixels: int = MAX_PIXELS

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
    """Encoded pictures as a source of images: `pictures[indices]` is uint8 [n, height, width, channels].

    ranges: what stored values of every depth lie in. seen: takes note of the values of whatever is decoded.
    """

    files: Files
    format: Format
    ranges: Ranges = dataclasses.field(default_factory=lambda: PLAIN)
    seen: Extremes | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, C] of all images."""
        return (len(self.files), *self.format.shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.format.shape), np.uint8)
        for image, index in zip(images, indices.tolist()):
            name = self.files.name(index)
            image[:] = decode(self.files.read(index), self.format, name, self.ranges, self.seen)
        return images


def decode(
    encoded: bytes | np.ndarray, form: Format, name: str, ranges: Ranges = PLAIN, seen: Extremes | None = None
) -> np.ndarray:
    """uint8 [height, width, channels] of an encoded picture, the right way up (EXIF), of an animation its first frame.

    Its stored values are taken to lie in the range of their depth, and `seen` takes note of them. Raises UsageError,
    naming the picture, where it cannot be decoded or is larger than may be.
    """
    from PIL import ImageOps

    try:
        with _open(encoded, form, name) as image:
            image.load()
            if image.info:  # where EXIF is, if there is any: looking costs as much as decoding a small picture
                ImageOps.exif_transpose(image, in_place=True)
            image = center_crop_resize(convert(image, form.channels, ranges, seen), *form.shape[:2], form.crop)
            return np.asarray(image).reshape(form.shape)
    except Exception as error:  # a decoder raises whatever it likes over a broken file
        raise _unreadable(name, error) from None


class Header(NamedTuple):
    """Of an encoded picture. channels: 1 of a grey one, else 3. transparent: whether it has transparency."""

    height: int
    width: int
    channels: int
    transparent: bool


def header(encoded: bytes | np.ndarray, name: str) -> Header:
    """What `raw` will see, without decoding; raises as `decode`, and UsageError for more than 8 bits."""
    try:
        with _open(encoded, Format(1, 3), name) as image:
            mode, size, transparent = image.mode, image.size, image.has_transparency_data
    except Exception as error:
        raise _unreadable(name, error) from None
    require(
        mode not in DEEP,
        f"{name} has more than 8 bits (Pillow's mode {mode}), and nothing says which values are black and white:"
        " write it with 8 bits, or give an array and features of your own",
    )
    return Header(size[1], size[0], 1 if mode in ("1", "L", "LA", "La") else 3, transparent)


def raw(encoded: bytes | np.ndarray, name: str, channels: int = 3) -> np.ndarray:
    """uint8 [H, W, C] of an encoded picture as it is stored: Pillow's colours, neither turned, cropped nor resized.

    As the tools that measure folders decode them: what is transparent is dropped. Raises as `decode`.
    """
    try:
        with _open(encoded, Format(1, channels), name) as image:
            decoded = np.asarray(image.convert(MODES[channels]))
            return decoded.reshape(*decoded.shape[:2], channels)
    except Exception as error:
        raise _unreadable(name, error) from None


def look(encoded: bytes | np.ndarray, form: Format, name: str, seen: Extremes) -> str:
    """A picture's depth; only where `seen` wants more values of it is it decoded. Raises as `decode`."""
    try:
        with _open(encoded, form, name) as image:
            depth = depth_of(image)
            if seen.wants(depth):
                image.load()
                convert(image, form.channels, PLAIN, seen)
            return depth
    except Exception as error:
        raise _unreadable(name, error) from None


def _open(encoded: bytes | np.ndarray, form: Format, name: str) -> "Image":
    """The picture, not decoded yet; UsageError for one that is too large."""
    if isinstance(encoded, np.ndarray):
        return pillow().fromarray(encoded[..., 0] if encoded.shape[-1] == 1 else encoded)
    image = pillow().open(io.BytesIO(encoded), formats=FORMATS)
    if (pixels := image.width * image.height) > form.max_pixels:
        raise UsageError(
            f"{name} has {pixels:,} pixels, more than data.max_pixels={form.max_pixels}: set data.max_pixels={pixels}"
            f" if it is to be read, which takes {6e-6 * pixels:.0f} MB of memory, or shrink it"
        )
    return image


def _unreadable(name: str, error: Exception) -> UsageError:
    if isinstance(error, UsageError):
        return error
    unknown = isinstance(error, pillow().UnidentifiedImageError)  # it says "<_io.BytesIO object at 0x7f...>"
    reason = f"it is no {', '.join(FORMATS)}" if unknown else str(error).split("\n")[0] or type(error).__name__
    return UsageError(f"{name} cannot be decoded ({reason}): mend it or put another in its place")


def pillow() -> Any:
    """PIL.Image without its limit of pixels, which is the process's and not a call's: `Format.max_pixels` is ours.

    It would warn from half the limit on, and look again at every crop.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    return Image


def depth_of(image: "Image") -> str:
    """What its values are stored as, of `ranges.PLAIN`: of colours and palettes always 8 bits."""
    return DEEP.get(image.mode, "uint8")


def convert(image: "Image", channels: int, ranges: Ranges = PLAIN, seen: Extremes | None = None) -> "Image":
    """The picture in grey ("L", Rec. 601 luma) or RGB; what is transparent lies over white.

    Bytes are left alone where their range is 0 to 255. Raises ValueError for values that are NaN or infinite.
    """
    if (depth := depth_of(image)) != "uint8":
        return _deep(image, *ranges[depth], seen).convert(MODES[channels])
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = pillow().alpha_composite(pillow().new("RGBA", image.size, "white"), image)
    looking, (low, high) = seen is not None and seen.wants("uint8"), ranges["uint8"]
    if image.mode not in MODES.values() or not (looking or (low, high) != PLAIN["uint8"]):
        image = image if image.mode == MODES[channels] else image.convert(MODES[channels])
    if looking:
        assert seen is not None
        found = np.asarray(image.getextrema())
        seen.see("uint8", found.min(), found.max())
    if (low, high) != PLAIN["uint8"]:
        image = image.point(scaled(np.arange(256), low, high).tolist() * len(image.getbands()))
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _deep(image: "Image", low: float, high: float, seen: Extremes | None) -> "Image":
    """Grey of more than 8 bits as bytes: Pillow's own conversion would clip at 255. One value may be transparent."""
    pixels = np.asarray(image)
    least, most = pixels.min(), pixels.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError("it has values that are NaN or infinite")
    if seen is not None:
        seen.see(depth_of(image), least, most)
    transparent = image.info.get("transparency")
    found = scaled(pixels, low, high)
    return pillow().fromarray(found if transparent is None else np.where(pixels == transparent, np.uint8(255), found))


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
