"""Pictures as they are stored, of any size, to be measured and not trained on: of a folder, a zip or an array file."""

import dataclasses
import hashlib
import json
import pathlib
import re
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from score_sde.data.folder import every_picture
from score_sde.data.identity import facts
from score_sde.data.npz import headers, reason
from score_sde.data.pictures import EXTENSIONS, Files, Header, header, raw
from score_sde.data.sources import cores
from score_sde.errors import UsageError, require
from score_sde.progress import Progress

SAMPLES = "samples.npz"
"""In a folder, the file that --mode sample writes."""
NAMES = ("samples", "images", "arr_0")
"""What pictures are called in an .npz file, the first that is there."""
ANOTHER = "name a folder or a zip file of pictures, an .npy or .npz file of them, or a folder that --mode sample wrote"
SCANNED = 1024
"""Files whose headers are read between two steps of the progress bar."""


@dataclasses.dataclass(frozen=True)
class RawPictures:
    """Encoded pictures: of a slice uint8 [n, H, W, C] where all have the size of the first one, else a list of them.

    headers: of every file; crc32: of its bytes. C is 1 where all of them are grey, else 3.
    """

    files: Files
    headers: tuple[Header, ...]
    crc32: tuple[int, ...]

    @classmethod
    def of(cls, files: Files) -> "RawPictures":
        """With what stands in every file's header; UsageError for one that is no picture of 8 bits."""

        def look(index: int) -> tuple[Header, int]:
            encoded = files.read(index)
            data = encoded if isinstance(encoded, bytes) else encoded.tobytes()
            return header(encoded, files.name(index)), zlib.crc32(data)

        found: list[tuple[Header, int]] = []
        with Progress("looking at pictures", len(files), "pictures") as progress, ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(files), SCANNED):
                found += pool.map(look, range(start, min(start + SCANNED, len(files))))
                progress.update(min(SCANNED, len(files) - start))
        return cls(files, *map(tuple, zip(*found)))

    def __len__(self) -> int:
        return len(self.files)

    @property
    def channels(self) -> int:
        """1 where all are grey, else 3."""
        return max(h.channels for h in self.headers)

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """Height, width and channels that there are."""
        return {(h.height, h.width, self.channels) for h in self.headers}

    @property
    def transparent(self) -> int:
        """How many have transparency, which is dropped."""
        return sum(h.transparent for h in self.headers)

    def facts(self) -> dict[str, Any]:
        """What they are known by, wherever they lie: how many, and a digest of names and bytes of all files."""
        known = json.dumps([self.files.listing(), self.crc32])
        return {"count": len(self), "files": hashlib.sha256(known.encode()).hexdigest()}

    def __getitem__(self, part: slice) -> np.ndarray | list[np.ndarray]:
        read = lambda index: raw(self.files.read(index), self.files.name(index), self.channels)
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(read, range(*part.indices(len(self)))))
        return np.stack(found) if len(self.shapes) == 1 else found


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array of samples [N, ...], of an .npy file memory-mapped."""

    x: np.ndarray
    transparent: int = 0

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """The one of all samples."""
        return {self.x.shape[1:]}

    def facts(self) -> dict[str, Any]:
        """What they are known by: shape, dtype, values."""
        return facts(self.x)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.asarray(self.x[part])


def pictures_at(path: str) -> tuple[RawPictures | Stored, np.ndarray]:
    """What lies at a path, and which of them are finite, bool [N]; UsageError where there is nothing of the kind."""
    place = pathlib.Path(path).expanduser()
    require(path and place.exists(), f"{path or 'no path'} does not exist: {ANOTHER}")
    place = place / SAMPLES if (place / SAMPLES).is_file() else place
    try:
        known = {} if place.is_dir() or _has_pictures(place) else headers(place)
        if not known:
            found = RawPictures.of(every_picture(path))
            return found, np.ones(len(found), bool)
        return _array(str(place), place, set(known))
    except UsageError as error:
        raise UsageError(re.sub("^data.path=", "", str(error))) from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as pictures ({reason(error)}): {ANOTHER}") from None


def _has_pictures(place: pathlib.Path) -> bool:
    """Whether a file is a zip file with pictures in it, whatever else there is."""
    if not zipfile.is_zipfile(place):
        return False
    with zipfile.ZipFile(place) as archive:
        return any(name.lower().endswith(EXTENSIONS) for name in archive.namelist())


def _array(path: str, place: pathlib.Path, known: set[str]) -> tuple[Stored, np.ndarray]:
    if "" in known:
        x, finite = np.load(place, mmap_mode="r"), None
    else:
        name = next((name for name in NAMES if name in known), None) or (min(known) if len(known) == 1 else None)
        require(name, f"{path} holds {sorted(known)}: call the pictures {' or '.join(NAMES[:2])}")
        with np.load(place) as arrays:
            x, finite = arrays[name], arrays["finite"] if "finite" in known else None
    require(
        x.ndim > 1 and x.dtype.kind in "fiu" and x.size > 0,
        f"{path} holds {x.dtype} {x.shape}, which is no array of pictures: give one whose first axis counts them",
    )
    require(
        finite is None or finite.shape == (len(x),),
        f"{path} says of {0 if finite is None else finite.size} samples whether they are finite, and holds {len(x)}:"
        " give `finite` one entry for each, or leave it out",
    )
    grey = x[..., None] if x.ndim == 3 and x.dtype == np.uint8 else x
    return Stored(grey), np.ones(len(x), bool) if finite is None else np.asarray(finite, bool)
