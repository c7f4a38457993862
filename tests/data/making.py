"""What the tests of the data make: random images, pictures of them, and sources that count or fail."""

import io
import pathlib
import zipfile
from typing import Any

import numpy as np
from PIL import Image


def random_images(count: int, size: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), np.uint8)


def picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(folder: pathlib.Path, images: np.ndarray, names: list[str] | None = None) -> pathlib.Path:
    """PNGs of the images; by number where no names are given."""
    for image, name in zip(images, names or [f"{i:05d}.png" for i in range(len(images))]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(image).save(folder / name)
    return folder


def zipped(
    folder: pathlib.Path, path: pathlib.Path, below: str = "", method: int = zipfile.ZIP_DEFLATED
) -> pathlib.Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for source in sorted(folder.rglob("*"), reverse=True):
            if source.is_file():
                file.write(source, below + source.relative_to(folder).as_posix())
    return path


class Shades:
    """Image i is of colour i: a source that decodes, so to speak, and that a worker can be sent."""

    def __init__(self, count: int) -> None:
        self.shape = (count, 2, 2, 1)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return np.broadcast_to(indices.astype(np.uint8)[:, None, None, None], (len(indices), 2, 2, 1)).copy()


class Broken(Shades):
    """Fails as a picture does that cannot be decoded."""

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        from score_sde.errors import UsageError

        raise UsageError("image 3 cannot be decoded")
