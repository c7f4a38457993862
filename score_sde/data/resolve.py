"""From `data.name` and `data.path` to images: what lies there is looked at, not guessed from the name."""

import pathlib
import zipfile

from score_sde.data import folder, records
from score_sde.data.cache import Cache, decoded
from score_sde.data.pictures import Encoded, Format, Pictures
from score_sde.data.sources import Images, array_file
from score_sde.errors import require

BUILDERS = {"cifar10": "cifar10", "svhn": "svhn_cropped", "celeba": "celeb_a", "lsun": "lsun"}
"""Where data.path is empty: the builder of TensorFlow Datasets."""

BY_HAND = {
    "ffhq": "FFHQ's images1024x1024 (or thumbnails128x128), as that folder, a zip file of it",
    "celebahq": "the 30,000 images of CelebA-HQ, as a folder, a zip file, a prepared celeb_a_hq directory",
}
"""Sets that nothing downloads, and the files that are needed."""

CROPS = {"celeba": 140}
"""Song et al. 2021 crop the centre 140x140 of CelebA's aligned 178x218 pictures; all others are cropped square."""


def resolve(name: str, path: str, category: str, form: Format, cache: Cache) -> Images:
    """The images of a data set: "folder", "tfds", or a published one, whose files may lie at `path` in any shape.

    Without a path a published set is taken from TensorFlow Datasets. Raises UsageError for what is missing or wrong.
    """
    form.check()
    if name == "tfds":
        found = records.prepared(path, cache) if _is_directory(path) else records.named(path, cache)
    elif path:
        found = _located(path, cache, arrays=name != "folder")
    else:
        require(
            name in BUILDERS,
            f"data.path is empty, and nothing downloads data.name={name!r}: name {BY_HAND.get(name, 'its files')},"
            " or an .npy or .npz file",
        )
        found = records.named(BUILDERS[name] + (f"/{category}" if name == "lsun" else ""), cache)
    return found if isinstance(found, Images) else _decoded(found, form, cache)


def _is_directory(path: str) -> bool:
    """Whether a path is a directory; UsageError where it looks like one and is none."""
    found = pathlib.Path(path).expanduser().is_dir()
    require(
        found or not path.startswith(("/", "~", ".")),
        f"data.path={path} is not a directory: name a prepared one, or a builder of tensorflow_datasets",
    )
    return found


def _located(path: str, cache: Cache, arrays: bool) -> Encoded | Images:
    """What lies at a path: a prepared TFDS directory, a folder or zip file of pictures or, if they will do, arrays."""
    place = pathlib.Path(path).expanduser()
    choices = "a directory or zip file of pictures"
    choices += ", an .npy or .npz file of uint8 images, or a prepared TFDS directory" if arrays else ""
    require(place.exists(), f"data.path={path} does not exist: name {choices}")
    if place.is_dir():
        # Where the versions of a prepared set are, but no version itself, `prepared` tells the remedy.
        is_prepared = (place / records.INFO).exists() or any(place.glob(f"*/{records.INFO}"))
        return records.prepared(path, cache) if is_prepared and arrays else folder.folder(path)
    if zipfile.is_zipfile(place) and not _is_npz(place):
        return folder.zip_file(path)
    require(arrays, f"data.path={path} is neither a directory nor a zip file: name {choices}")
    return array_file(path)


def _is_npz(place: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(place) as opened:
            names = opened.namelist()
    except (OSError, zipfile.BadZipFile):
        return place.suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


def _decoded(found: Encoded, form: Format, cache: Cache) -> Images:
    train, held_out = (decoded(Pictures(files, form), cache) for files in (found.train, found.held_out))
    return Images(train, held_out, found.labels, found.held_out_labels, found.classes)
