"""From `data.name` and `data.path` to images: what lies there is looked at, not guessed from the name."""

import dataclasses
import pathlib
import sys
import zipfile
from collections.abc import Sequence

from score_sde.data import cifar, examples, folder, imagenet, preparing, records
from score_sde.data.array_folder import array_folder
from score_sde.data.arrays import array_file
from score_sde.data.cache import Cache, fits, gibibytes, measured
from score_sde.data.captions import CAPTION
from score_sde.data.headers import look as look_at_headers
from score_sde.data.pictures import Encoded, Format, Pictures, look
from score_sde.data.ranges import EXAMPLES, PLAIN, Extremes, Ranges, Values
from score_sde.data.recognise import kind
from score_sde.data.sources import Dataset, chosen, labelled
from score_sde.errors import UsageError, require

BUILDERS = {"cifar10": "cifar10", "svhn": "svhn_cropped", "celeba": "celeb_a", "lsun": "lsun"}
"""Where data.path is empty: the builder of TensorFlow Datasets."""

BY_HAND = {
    "ffhq": "FFHQ's images1024x1024 (or thumbnails128x128), as that folder, a zip file of it, its TFRecord file",
    "celebahq": "the 30,000 images of CelebA-HQ, as a folder, a zip or TFRecord file, a prepared celeb_a_hq directory",
}
"""Sets that nothing downloads, and the files that are needed."""

CROPS = {"celeba": 140}
"""Song et al. 2021 crop the centre 140x140 of CelebA's aligned 178x218 pictures; all others are cropped square."""


def resolve(
    name: str,
    path: str,
    category: str,
    form: Format,
    cache: Cache,
    workers: int = 0,
    conditions: tuple[str, ...] = (),
    ranges: Ranges | None = None,
) -> Dataset:
    """The images of a data set: "folder", "tfds", or a published one, whose files may lie at `path` in any shape.

    Without a path a published set is taken from TensorFlow Datasets. ranges: what stored values of pictures lie in, by
    depth; where there are none they are found, of all pictures that are kept decoded, else of some. Tells, on stderr,
    where pictures too many for the cache will be waited for, as there are no worker processes. Raises UsageError for
    what is missing or wrong.
    """
    form.check()
    asked = "label" in conditions
    if name == "tfds":
        found = records.prepared(path if _is_directory(path) else preparing.directory(path), form, cache, asked)
    elif path:
        found = _located(path, form, cache, conditions, arrays=name != "folder")
    else:
        require(
            name in BUILDERS,
            f"data.path is empty, and nothing downloads data.name={name!r}: name {BY_HAND.get(name, 'its files')},"
            " or an .npy or .npz file",
        )
        builder = BUILDERS[name] + (f"/{category}" if name == "lsun" else "")
        found = records.prepared(preparing.directory(builder), form, cache, asked)
    return found if isinstance(found, Dataset) else _decoded(found, form, cache, workers, ranges or {})


def _is_directory(path: str) -> bool:
    """Whether a prepared directory is meant, and not the builder of that name; UsageError where neither can be.

    What looks like a path is one. What may be both is the directory only where that holds a prepared set.
    """
    place = pathlib.Path(path).expanduser()
    if path.startswith(("/", "~", ".")):
        require(
            place.is_dir(),
            f"data.path={path} is not a directory: name a prepared one, or a builder of tensorflow_datasets",
        )
        return True
    if _is_prepared(place):
        return True
    if place.is_dir():
        note = f"the directory of that name here holds no prepared set (else write data.path=./{path})"
        print(f"data.path={path}: the builder of tensorflow_datasets is meant, as {note}", file=sys.stderr)
    return False


def _is_prepared(place: pathlib.Path) -> bool:
    """Whether it is a version of a prepared set, or holds such: then `records.prepared` tells the remedy."""
    return (place / records.INFO).exists() or any(place.glob(f"*/{records.INFO}"))


def _located(path: str, form: Format, cache: Cache, conditions: tuple[str, ...], arrays: bool) -> Encoded | Dataset:
    """What lies at a path: pictures in a folder, zip or TFRecord file, or if they will do arrays or a prepared set."""
    place = pathlib.Path(path).expanduser()
    choices = "a directory, a zip file or a TFRecord file of pictures"
    choices += ", an .npy or .npz file of uint8 images, or a prepared TFDS directory" if arrays else ""
    require(place.exists(), f"data.path={path} does not exist: name {choices}")
    asked = "label" in conditions
    if place.is_dir() and _is_prepared(place):
        return records.prepared(path, form, cache, asked) if arrays else folder.folder(path, conditions)
    if examples.holds(place):
        return examples.pictures(path, form, cache, asked)
    if place.is_dir():
        return _directory(path, place, cache, arrays, conditions)
    if zipfile.is_zipfile(place) and not _is_npz(place):
        return folder.zip_file(path, conditions)
    if arrays:
        return array(path, conditions, cache)
    what = kind(place)
    said = f"is {what.what}: {what.way}" if what else f"is no directory, zip file or TFRecord file: name {choices}"
    raise UsageError(f"data.path={path} {said}")


def _directory(
    path: str, place: pathlib.Path, cache: Cache, arrays: bool, conditions: tuple[str, ...]
) -> Encoded | Dataset:
    """The pictures of a directory, or where there are none the batches that sets are distributed as."""
    try:
        return folder.folder(path, conditions)
    except UsageError:
        found = _batches(path, place, cache, "label" in conditions)
        if found is None:
            raise
    require(arrays, f"data.path={path} holds batches of arrays and no picture: --config.data.name=array reads them")
    return found


def _batches(path: str, place: pathlib.Path, cache: Cache, asked: bool) -> Dataset | None:
    return cifar.read(path, place, asked) or imagenet.read(path, place, cache, asked)


def array(path: str, conditions: tuple[str, ...], cache: Cache, shape: Sequence[int] = ()) -> Dataset:
    """The data of an .npy or .npz file, of a folder of .npy files, or of CIFAR's or ImageNet's batches.

    shape: of an example, where files of a folder may hold several. UsageError for anything else.
    """
    place = pathlib.Path(path).expanduser()
    if place.exists() and (found := _batches(path, place, cache, "label" in conditions)):
        return found
    if place.is_dir() and (found := array_folder(path, shape, conditions)):
        return found
    if place.is_dir():
        what = kind(place)
        said = f"{what.what}: {what.way}" if what else "a directory: of pictures, --config.data.name=folder reads it"
        raise UsageError(f"data.path={path} is {said}")
    return array_file(path, conditions)


def _is_npz(place: pathlib.Path) -> bool:
    try:
        with zipfile.ZipFile(place) as opened:
            names = opened.namelist()
    except (OSError, zipfile.BadZipFile):
        return place.suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


def _decoded(encoded: Encoded, form: Format, cache: Cache, workers: int, asked: Ranges) -> Dataset:
    train, held_out = (Pictures(files, form) for files in (encoded.train, encoded.held_out))
    account = encoded.account._replace(looks=look_at_headers(encoded.train, form))
    labels = (encoded.labels, encoded.held_out_labels, encoded.classes, account)
    kept = fits(encoded, form, cache)
    if not kept and workers == 0:
        print(
            f"{len(train)} pictures are decoded when they are needed ({gibibytes(encoded, form):.3g} GiB in all is"
            f" above data.cache_limit={cache.limit}): training waits for them less with data.workers=4, say",
            file=sys.stderr,
        )
    if kept:
        parts, seen = measured([train, held_out], cache, asked)
    else:
        seen = Extremes() if PLAIN.keys() <= asked.keys() else _some_values(train)
        parts = [dataclasses.replace(part, ranges=PLAIN | seen.ranges(asked)) for part in (train, held_out)]
    values = Values(seen.ranges(asked), seen.found, sampled=not kept)
    return _captioned(labelled(parts[0], parts[1], *labels)._replace(values=values), encoded)


def _captioned(data: Dataset, encoded: Encoded) -> Dataset:
    own, other = (
        {**told} if found is None else {**told, CAPTION: found}
        for told, found in (
            (data.condition, encoded.captions),
            (data.held_out_condition, encoded.held_out_captions),
        )
    )
    return data._replace(condition=own, held_out_condition=other)


def _some_values(pictures: Pictures) -> Extremes:
    """The values of a fixed choice of pictures."""
    seen = Extremes()
    for index in chosen(len(pictures), EXAMPLES).tolist():
        look(pictures.files.read(index), pictures.format, pictures.files.name(index), seen)
    return seen
