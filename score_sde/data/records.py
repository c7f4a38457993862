"""Prepared directories of TensorFlow Datasets read without TensorFlow, of both formats: pictures as stored."""

import dataclasses
import functools
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from score_sde.data.account import Account
from score_sde.data.cache import Cache, fingerprint, fits, stored
from score_sde.data.labels import where_asked
from score_sde.data.pictures import Encoded, Format, state
from score_sde.data.recognise import HUGGING_FACE, kind
from score_sde.data.splits import TRAIN, Split, role, split
from score_sde.data.tfrecord import TFRecords, indexed
from score_sde.errors import UsageError, require
from score_sde.progress import Progress

INFO = "dataset_info.json"
"""What every prepared directory holds."""

FORMAT = "array_record"
"""What is prepared here: it has random access of its own."""

DEFAULT = "tfrecord"
"""What tensorflow_datasets prepares when nothing is said."""

LARGE_GROUP = 64
"""Records of a group from which on reading one at random takes many times as long."""


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """One feature of one split of a prepared directory; every process that unpickles it opens a reader of its own."""

    directory: str
    split: str
    feature: str
    count: int
    shards: TFRecords | None = None
    """The split's records where they are TFRecords."""

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        """Directory, split and number."""
        return f"{self.directory}:{self.split}[{index}]"

    def read(self, index: int) -> Any:
        """The feature of a record, a picture as it was stored; UsageError for a record that cannot be read."""
        try:
            records, only, decoders = self._reader
            return only.deserialize_example_np(records[index], decoders=decoders)[self.feature]
        except UsageError:
            raise
        except Exception as error:  # the reader is C++ behind Python: what it raises is not said anywhere
            reason = str(error).split("\n")[0]
            raise UsageError(f"{self.name(index)} cannot be read ({reason}): prepare the directory anew") from None

    @functools.cached_property
    def _reader(self) -> tuple[Any, Any, Any]:
        """The undecoded records, the one feature that is decoded (CelebA has 52 others: 18 times as fast), and how."""
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder_from_directory(self.directory)
        feature = builder.info.features[self.feature]
        skip = {self.feature: tfds.decode.SkipDecoding()} if isinstance(feature, tfds.features.Image) else None
        records = self.shards
        if records is None:
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            records = builder.as_data_source(self.split, deserialize_method=raw)
        return records, tfds.features.FeaturesDict({self.feature: feature}), skip

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_reader"}

    def stamp(self) -> list:
        """The split, and name, size and time of modification of every file of the directory."""
        files = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_file())
        states = [(name, *state(os.path.join(self.directory, name))) for name in files]
        return [os.path.abspath(self.directory), self.split, self.feature, states]

    def listing(self) -> list:
        """The split, and name and size of every file of the directory."""
        _, split, feature, states = self.stamp()
        return [split, feature, [(name, size) for name, size, _ in states]]


def prepared(path: str, form: Format, cache: Cache, asked: bool = False) -> Encoded:
    """The pictures of a prepared directory, which holds a dataset_info.json; UsageError for what cannot be used.

    Split `train` is to train on; `test`, or `validation`, is held out where there is one (splits.py). Where one feature
    is a ClassLabel it is read for all records; the cache keeps it if it is to keep the decoded pictures. asked: labels
    are asked for, so those that are none are an error.
    """
    import tensorflow_datasets as tfds

    directory = str(pathlib.Path(path).expanduser())
    other = kind(pathlib.Path(directory))
    if other and other.what == HUGGING_FACE:  # whose sets have a description of the same name
        raise UsageError(f"data.path={path} is {other.what}: {other.way}")
    require(
        os.path.exists(os.path.join(directory, INFO)),
        f"data.path={path} holds no {INFO}: name the directory of a version, such as .../cifar10/3.0.2",
    )
    try:
        info = tfds.builder_from_directory(directory).info
        formats = _formats(info)
    except Exception as error:  # a broken description: JSON, protocol buffers, features that are not installed
        raise UsageError(f"data.path={path} cannot be used ({reason(error)}): prepare it anew") from None
    require(
        {FORMAT, DEFAULT} & {*formats},
        f"data.path={path} is stored as {', '.join(formats)}, which is not read here: prepare the set anew with"
        f" download_and_prepare(file_format={FORMAT!r}) and another data_dir",
    )
    return _encoded(path, directory, info, form, cache, asked)


def _encoded(path: str, directory: str, info: Any, form: Format, cache: Cache, asked: bool) -> Encoded:
    counts = {name: split.num_examples for name, split in info.splits.items() if split.num_examples}
    lone = [name for name in counts if role(name) == TRAIN]
    require(lone, f"data.path={path} has the splits {sorted(info.splits)} and no train: it cannot be used")
    parts = split(counts, f"data.path={path}") or Split(lone[0], "", ())
    image = _image_feature(path, info.features)
    train = _records(directory, info, parts.train, image, cache)
    held_out = Records(directory, parts.train, image, 0)
    if parts.held_out:
        held_out = _records(directory, info, parts.held_out, image, cache)
    passed = {f"in the split {name}": count for name, count in counts.items() if name not in parts[:2]}
    found = Encoded(train, held_out, account=Account(parts.held_out, passed))
    label = _label_feature(info.features)
    if label is None:
        return found
    keep = cache if fits(found, form, cache) else None
    labels = [_labels(dataclasses.replace(part, feature=label), keep) for part in (train, held_out)]
    if not where_asked(asked, lambda: _check_classes(path, labels), False):
        return found
    names = tuple(info.features[label].names)
    return found._replace(labels=labels[0], held_out_labels=labels[1] if parts.held_out else None, classes=names)


def _formats(info: Any) -> list[str]:
    return sorted(known.value for known in info.available_file_formats())


def _records(directory: str, info: Any, split: str, feature: str, cache: Cache) -> Records:
    """A split's records, with the index of its files where they are TFRecords."""
    found = info.splits[split]
    shards = None if FORMAT in _formats(info) else _shards(found, cache)
    if shards is None and (size := _group_size(_paths(found, FORMAT)[0])) > LARGE_GROUP:
        note = f"its files keep {size} records in a group, and all of a group are read for one of them, which is slow"
        print(f"{directory}:{split}: {note}: write them anew with the option group_size:1", file=sys.stderr)
    return Records(directory, split, feature, found.num_examples, shards)


def _paths(split: Any, suffix: str) -> list[str]:
    template = split.filename_template.replace(filetype_suffix=suffix)
    return [os.fspath(path) for path in template.sharded_filepaths(split.num_shards)]


def _group_size(path: str) -> int:
    """Records that an array_record file compresses together; 1 where it does not tell."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader

        reader = ArrayRecordReader(path)
        try:
            found = re.search(r"group_size:(\d+)", reader.writer_options_string())
        finally:
            reader.close()
    except Exception:  # the reader is C++ behind Python; what is wrong with a file is said when it is read
        return 1
    return int(found[1]) if found else 1


def _shards(split: Any, cache: Cache) -> TFRecords:
    """The records of a split's files; UsageError where a file has more or fewer than the description says."""
    records = indexed(_paths(split, DEFAULT), cache)
    counts = np.bincount(records.table[:, 0], minlength=split.num_shards).tolist()
    for path, count, expected in zip(records.paths, counts, split.shard_lengths):
        require(
            count == expected,
            f"{path} has {count} records where {INFO} says {expected}: copy the directory or prepare it anew",
        )
    return records


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


def _labels(records: Records, cache: Cache | None) -> np.ndarray:
    """int32 [N], read from every record, with a cache only the first time."""

    def read() -> Iterator[np.ndarray]:
        with Progress("reading labels", len(records), "records") as progress:
            for index in range(len(records)):
                yield np.array([records.read(index)], np.int32)
                progress.update(1)

    if cache is None or len(records) == 0:
        return np.array([*read()], np.int32).reshape(len(records))
    return np.asarray(stored(cache, fingerprint(records.stamp()), (len(records),), np.dtype(np.int32), read))


def _check_classes(path: str, labels: list[np.ndarray]) -> bool:
    """True; UsageError where a label is none, which TensorFlow Datasets says by -1."""
    without = sum(int((part < 0).sum()) for part in labels)
    require(
        without == 0,
        f"data.path={path} has {without} examples without a class (their label is below 0): leave the label out of"
        " data.condition",
    )
    return True


def reason(error: Exception) -> str:
    """The first line of another library's complaint."""
    return (str(error).split("\n")[0] or type(error).__name__).strip().rstrip(".")
