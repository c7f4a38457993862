"""Pictures as they are stored, of any size, to be measured and not trained on: of a folder, a zip or an array file."""

import dataclasses
import hashlib
import json
import pathlib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from score_sde.data.folder import every_picture
from score_sde.data.identity import facts
from score_sde.data.npz import headers, reason
from score_sde.data.pictures import Files, raw
from score_sde.data.sources import cores
from score_sde.errors import UsageError, require

SAMPLES = "samples.npz"
"""In a folder, the file that --mode sample writes."""
NAMES = ("samples", "images", "arr_0")
"""What pictures are called in an .npz file, the first that is there."""
ANOTHER = "name a folder or a zip file of pictures, an .npy or .npz file of them, or a folder that --mode sample wrote"


@dataclasses.dataclass(frozen=True)
class RawPictures:
    """Encoded pictures: of a slice uint8 [n, H, W, 3] where all have the size of the first one, else a list of them."""

    files: Files

    def __len__(self) -> int:
        return len(self.files)

    def facts(self) -> dict[str, Any]:
        """What they are known by, wherever they lie: how many, and a digest of names and sizes of files."""
        listing = hashlib.sha256(json.dumps(self.files.listing()).encode()).hexdigest()
        return {"count": len(self), "files": listing}

    def __getitem__(self, part: slice) -> np.ndarray | list[np.ndarray]:
        read = lambda index: raw(self.files.read(index), self.files.name(index))
        with ThreadPoolExecutor(cores()) as pool:
            found = list(pool.map(read, range(*part.indices(len(self)))))
        first = read(0).shape
        return np.stack(found) if found and all(x.shape == first for x in found) else found


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array of samples [N, ...], of an .npy file memory-mapped."""

    x: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def facts(self) -> dict[str, Any]:
        """What they are known by: shape, dtype, values."""
        return facts(self.x)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.asarray(self.x[part])


def pictures_at(path: str) -> tuple[RawPictures | Stored, np.ndarray]:
    """What lies at a path, and which of them are finite, bool [N]; UsageError where there is nothing of the kind."""
    place = pathlib.Path(path).expanduser()
    require(place.exists(), f"{path} does not exist: {ANOTHER}")
    place = place / SAMPLES if (place / SAMPLES).is_file() else place
    try:
        known = {} if place.is_dir() else headers(place)
        if not known:
            found = RawPictures(every_picture(path))
            return found, np.ones(len(found), bool)
        return _array(str(place), place, set(known))
    except UsageError as error:
        raise UsageError(str(error).replace("data.path=", "")) from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read as pictures ({reason(error)}): {ANOTHER}") from None


def _array(path: str, place: pathlib.Path, known: set[str]) -> tuple[Stored, np.ndarray]:
    if "" in known:
        x, finite = np.load(place, mmap_mode="r"), None
    else:
        name = next((name for name in NAMES if name in known), None) or (min(known) if len(known) == 1 else None)
        require(name, f"{path} holds {sorted(known)}: call the pictures {' or '.join(NAMES[:2])}")
        with np.load(place) as arrays:
            x, finite = arrays[name], arrays["finite"] if "finite" in known else None
    require(
        x.ndim > 1 and x.dtype.kind in "fiu" and len(x) > 0,
        f"{path} holds {x.dtype} {x.shape}: the first axis counts pictures, the rest is one",
    )
    grey = x[..., None] if x.ndim == 3 and x.dtype == np.uint8 else x
    return Stored(grey), np.ones(len(x), bool) if finite is None else np.asarray(finite, bool)
