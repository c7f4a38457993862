"""TensorFlow Datasets without TensorFlow: array_record files, prepared where needed, pictures decoded by Pillow."""

import dataclasses
import functools
import importlib.resources
import io
import os
import pathlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from score_sde.data.cache import Cache, fingerprint, stored
from score_sde.data.pictures import Encoded
from score_sde.errors import UsageError, require
from score_sde.progress import Progress

INFO = "dataset_info.json"
"""What every prepared directory holds."""

FORMAT = "array_record"
NEEDS_TENSORFLOW = ("lsun",)
"""Builders that would fail only after the download: LSUN's reads LMDB by tensorflow_io."""

HELD_OUT = ("test", "validation", "val")


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """One split of a prepared directory; its reader is opened anew in every process that unpickles it."""

    directory: str
    split: str
    image: str
    """The name of the feature that is the picture."""
    count: int

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Directory, split and number."""
        return f"{self.directory}:{self.split}[{index}]"

    def read(self, index: int) -> bytes | np.ndarray:
        """The picture's bytes, as they were stored."""
        return self.field(index, self.image)

    def field(self, index: int, name: str) -> Any:
        """A feature of a record, pictures not decoded; UsageError for a record that cannot be read."""
        try:
            return self._reader[index][name]
        except Exception as error:  # the reader is C++ behind Python: what it raises is not said anywhere
            reason = str(error).split("\n")[0]
            raise UsageError(f"{self.name(index)} cannot be read ({reason}): prepare the directory anew") from None

    @functools.cached_property
    def _reader(self) -> Any:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder_from_directory(self.directory)
        skip = {} if _is_array(builder.info.features[self.image]) else {self.image: tfds.decode.SkipDecoding()}
        return builder.as_data_source(self.split, decoders=skip or None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}

    def stamp(self) -> list:
        """The split, and name, size and time of modification of every file of the directory."""
        files = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_file())
        stats = [os.stat(os.path.join(self.directory, name)) for name in files]
        where = os.path.abspath(self.directory)
        return [where, self.split, self.image, [(n, s.st_size, s.st_mtime_ns) for n, s in zip(files, stats)]]


def prepared(path: str, cache: Cache) -> Encoded:
    """The pictures of a prepared directory, which holds a dataset_info.json; UsageError for what cannot be used.

    Split `train` is to train on; `test`, or `validation`, is held out where there is one. Where one feature is a
    ClassLabel it is read for all records, once: the cache keeps it.
    """
    import tensorflow_datasets as tfds

    directory = str(pathlib.Path(path).expanduser())
    require(
        os.path.exists(os.path.join(directory, INFO)),
        f"data.path={path} holds no {INFO}: name the directory of a version, such as .../cifar10/3.0.2",
    )
    try:
        info = tfds.builder_from_directory(directory).info
        formats = sorted(known.value for known in info.available_file_formats())
    except Exception as error:  # a broken description: JSON, protocol buffers, features that are not installed
        raise UsageError(f"data.path={path} cannot be used ({_reason(error)}): prepare it anew") from None
    require(
        FORMAT in formats,
        f"data.path={path} is stored as {', '.join(formats)}, which has no random access: prepare the set anew with"
        f" download_and_prepare(file_format={FORMAT!r}) and another data_dir",
    )
    return _encoded(path, directory, info, cache)


def _encoded(path: str, directory: str, info: Any, cache: Cache) -> Encoded:
    counts = {name: split.num_examples for name, split in info.splits.items()}
    require(counts.get("train"), f"data.path={path} has the splits {sorted(counts)} and no train: it cannot be used")
    image = _image_feature(path, info.features)
    held = next((name for name in HELD_OUT if counts.get(name)), None)
    train = Records(directory, "train", image, counts["train"])
    held_out = Records(directory, held or "train", image, counts[held] if held else 0)
    label = _label_feature(info.features)
    if label is None:
        return Encoded(train, held_out)
    labels = _labels(train, label, cache), _labels(held_out, label, cache) if held else None
    return Encoded(train, held_out, *labels, tuple(info.features[label].names))


def _is_array(feature: Any) -> bool:
    """Whether a feature is an image stored as numbers and not as a file."""
    shape, dtype = getattr(feature, "shape", None), getattr(feature, "np_dtype", None)
    return type(feature).__name__ == "Tensor" and len(shape or ()) == 3 and dtype == np.uint8


def _image_feature(path: str, features: Any) -> str:
    import tensorflow_datasets as tfds

    found = [n for n, f in features.items() if isinstance(f, tfds.features.Image) or _is_array(f)]
    found = ["image"] if "image" in found else found
    require(
        len(found) == 1,
        f"data.path={path} has the features {sorted(features)}, {len(found)} of them images: one image, or one named"
        " `image`, is needed",
    )
    return found[0]


def _label_feature(features: Any) -> str | None:
    import tensorflow_datasets as tfds

    found = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    return "label" if "label" in found else found[0] if len(found) == 1 else None


def _labels(records: Records, feature: str, cache: Cache) -> np.ndarray:
    """int32 [N], read from every record the first time."""

    def read() -> Iterator[np.ndarray]:
        with Progress("reading labels", len(records), "records") as progress:
            for index in range(len(records)):
                yield np.array([records.field(index, feature)], np.int32)
                progress.update(1)

    name = fingerprint(records.stamp(), feature)
    return np.asarray(stored(cache, name, (len(records),), np.dtype(np.int32), read))


def named(name: str, cache: Cache) -> Encoded:
    """The pictures of a TFDS builder ("cifar10", "cifar10:3.0.2"), prepared in TFDS's data directory if need be.

    The directory is $TFDS_DATA_DIR or ~/tensorflow_datasets. Raises UsageError for an unknown name and for a set that
    cannot be downloaded or prepared.
    """
    import tensorflow_datasets as tfds

    try:
        # The variable is read here because tensorflow_datasets reads it when it is imported.
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except Exception as error:  # an unknown name, version or config, or a directory that cannot be read
        raise UsageError(
            f"{name!r} is no builder of tensorflow_datasets ({_reason(error)}): see tfds.list_builders()"
        ) from None
    directory = builder.data_dir
    if os.path.exists(os.path.join(directory, INFO)):
        print(f"{name}: prepared in {directory}", file=sys.stderr)
        return prepared(directory, cache)
    require(
        builder.name not in NEEDS_TENSORFLOW,
        f"{name} is not in {directory}, and its builder cannot prepare it without TensorFlow: prepare it elsewhere with"
        f" file_format={FORMAT!r}, or name its images in data.path, as a folder or a zip file",
    )
    print(f"{name}: downloading and preparing into {directory}", file=sys.stderr, flush=True)
    try:
        with without_tensorflow(builder):
            builder.download_and_prepare(file_format=FORMAT)
    except Exception as error:  # the network, the disk, a download that has moved, a builder that needs TensorFlow
        raise UsageError(
            f"{name} cannot be prepared in {directory} ({type(error).__name__}: {_reason(error)}): prepare it elsewhere"
            f" with file_format={FORMAT!r}, or name its images in data.path, as a folder or a zip file"
        ) from None
    return prepared(directory, cache)


def _reason(error: Exception) -> str:
    return (str(error).split("\n")[0] or type(error).__name__).strip().rstrip(".")


@contextmanager
def without_tensorflow(builder: Any) -> Iterator[None]:
    """Let a builder prepare its set without TensorFlow, for as long as the block lasts.

    Three things that builders take from it have other sources: the encoder of images given as arrays (MNIST,
    CIFAR-10, SVHN) is Pillow's here, tf.io.gfile is the file system, and importlib_resources, which TensorFlow
    happens to bring along and tensorflow_datasets does not ask for, is Python's own. The first two are replaced from
    outside, in a private class and in the builder's module: a newer tensorflow_datasets may need another look here.
    """
    from tensorflow_datasets.core.features import image_feature

    encoder: Any = image_feature._ImageEncoder
    module = sys.modules[type(builder).__module__]
    was_encoding, had_tf = encoder._encode_image, getattr(module, "tf", None)
    sys.modules.setdefault("importlib_resources", importlib.resources)
    encoder._encode_image = _encode
    if had_tf is not None:
        files = types.SimpleNamespace(GFile=open, exists=os.path.exists, listdir=os.listdir)
        setattr(module, "tf", types.SimpleNamespace(io=types.SimpleNamespace(gfile=files)))  # noqa: B010
    try:
        yield
    finally:
        encoder._encode_image = was_encoding
        if had_tf is not None:
            setattr(module, "tf", had_tf)  # noqa: B010


def _encode(encoder: Any, image: np.ndarray) -> bytes:
    """The bytes of an array as a file of the encoder's format, as TensorFlow's encoder makes them."""
    from PIL import Image
    from tensorflow_datasets.core.features import image_feature

    image_feature._validate_np_array(image, shape=encoder.shape, dtype=encoder.np_dtype)
    file = io.BytesIO()
    # TensorFlow's JPEG quality is 95, Pillow's 75.
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        file, encoder.encoding_format, **({"quality": 95} if encoder.encoding_format == "jpeg" else {})
    )
    return file.getvalue()
