"""The pictures of TFRecord files: StyleGAN's and the official code's, and encoded files in tf.train.Examples."""

import dataclasses
import io
import math
import os
import pathlib
import re
import sys
from typing import Any

import numpy as np

from score_sde.data.account import Account, endings
from score_sde.data.cache import Cache
from score_sde.data.folder import files_below
from score_sde.data.labels import where_asked
from score_sde.data.npz import reason
from score_sde.data.pictures import FORMATS, MODES, Encoded, Format, pillow
from score_sde.data.tfrecord import REMEDY, TFRecords, indexed, is_header
from score_sde.errors import UsageError, require

NAME = re.compile(r".+\.tfrecords?(-\d+-of-\d+)?")
LEVEL = re.compile(r"(.+)-r(\d\d)\.tfrecords")
"""StyleGAN's and ProGAN's files: prefix, and the logarithm of the side of the pictures."""

ENCODED = "image/encoded"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """One picture of every record, which is a tf.train.Example: an encoded file, or numbers with their shape."""

    records: TFRecords
    feature: str
    is_array: bool
    """Whether the feature is uint8 numbers, channels first, whose shape is the feature `shape`."""

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        """The file and the offset of its record."""
        return self.records.name(index)

    def read(self, index: int) -> bytes | np.ndarray:
        """The bytes of the picture's file, or uint8 [H, W, C]; UsageError for a record that holds neither."""
        features = _features(self.records, index)
        content = _content(features, self.feature)
        if not self.is_array:
            return content
        shape = _shape(features)
        require(
            _is_shape_of(shape, content),
            f"{self.name(index)} has the shape {shape} and {len(content)} bytes of data: write the file anew, uint8"
            " of shape (channels, height, width), 1 or 3 of them",
        )
        return np.frombuffer(content, np.uint8).reshape(shape).transpose(1, 2, 0)

    def stamp(self) -> list:
        """The files' stamp, and the feature."""
        return [self.records.stamp(), self.feature]

    def listing(self) -> list:
        """The place of every record in the files."""
        return self.records.table.tolist()


def _features(records: TFRecords, index: int) -> Any:
    """A record's features by name; UsageError where it is no tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_pb2

    data = records[index]
    try:
        return tf_example_pb2.Example.FromString(data).features.feature  # pyright: ignore[reportAttributeAccessIssue]
    except Exception:  # a DecodeError of protocol buffers, whichever of its implementations is there
        raise UsageError(f"{records.name(index)} is no tf.train.Example: name a file of these") from None


def _content(features: Any, name: str) -> bytes:
    return next(iter(features[name].bytes_list.value), b"") if name in features else b""


def _shape(features: Any) -> tuple[int, ...]:
    return tuple(features["shape"].int64_list.value) if "shape" in features else ()


def _is_shape_of(shape: tuple[int, ...], content: bytes) -> bool:
    return len(shape) == 3 and shape[0] in MODES and min(shape) > 0 and math.prod(shape) == len(content)


def _is_picture(content: bytes) -> bool:
    try:
        with pillow().open(io.BytesIO(content), formats=FORMATS):
            return True
    except Exception:  # of a decoder that thought that it knew the format, or of none
        return False


def holds(place: pathlib.Path) -> bool:
    """Whether a file has TFRecords, by its name or its first bytes, or a directory such files, by their names."""
    if place.is_dir():
        return bool(_names(place))
    return is_header(place) or bool(NAME.fullmatch(place.name))


def _names(place: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(place) if NAME.fullmatch(entry.name) and entry.is_file())


def pictures(path: str, form: Format, cache: Cache, asked: bool = False) -> Encoded:
    """The pictures of a TFRecord file, or of a directory's: StyleGAN's file that suits the size, or else all of them.

    asked: labels are asked for, so those that are none are an error.
    UsageError where the files are several sets, and where the first record holds no picture that is understood.
    """
    place = pathlib.Path(path).expanduser()
    files = [str(place / name) for name in _chosen(path, _names(place), form)] if place.is_dir() else [str(place)]
    records = indexed(files, cache)
    train = Examples(records, *_feature(files[0], records))
    none = dataclasses.replace(train, records=TFRecords(records.paths, records.table[:0]))
    table = _table(pathlib.Path(files[0]))
    labels = where_asked(asked, lambda: table and _labels(table, len(train)), None)
    used = {os.path.relpath(file, place) for file in [*files, *([str(table)] if table else [])]}
    passed = endings(name for name in files_below(place) if name not in used) if place.is_dir() else {}
    return Encoded(train, none, labels, account=Account("", passed))


def _chosen(path: str, names: list[str], form: Format) -> list[str]:
    """Of StyleGAN's files the one with the side that is needed, or else the next larger; of others all, as one set."""
    levels = [found for name in names if (found := LEVEL.fullmatch(name))]
    kinds = (
        [found[1] for found in levels] if len(levels) == len(names) else [re.sub(r"\d+", "", name) for name in names]
    )
    require(
        len(set(kinds)) == 1,
        f"data.path={path} holds TFRecord files of several sets, such as {names[0]} and {names[-1]}: name one file, or"
        " give every set a directory of its own",
    )
    if len(levels) < len(names):
        return names
    sides = {2 ** int(found[2]): found[0] for found in levels}
    needed = max(form.size, form.crop)
    side = min((side for side in sides if side >= needed), default=max(sides))
    if side != needed:
        note = f"no file has pictures of {needed}x{needed}, so those of {sides[side]} ({side}x{side}) are resized"
        print(f"data.path={path}: {note}", file=sys.stderr)
    return [sides[side]]


def _feature(path: str, records: TFRecords) -> tuple[str, bool]:
    """The feature that is a picture in the first record, and whether it is numbers."""
    features = _features(records, 0)
    if _is_shape_of(_shape(features), _content(features, "data")):
        return "data", True
    found = [name for name in features if _is_picture(_content(features, name))]
    found = [ENCODED] if ENCODED in found else found
    require(
        len(found) == 1,
        f"{path} has records with the features {sorted(features)}, {len(found)} of them encoded pictures: one, or one"
        f" named {ENCODED}, is needed, or StyleGAN's `shape` (channels, height, width) and uint8 `data`",
    )
    return found[0], False


def _table(file: pathlib.Path) -> pathlib.Path | None:
    """The `-rxx.labels` beside a file of StyleGAN's, if it is there."""
    level = LEVEL.fullmatch(file.name)
    place = file.with_name(f"{level[1]}-rxx.labels") if level else None
    return place if place and place.exists() else None


def _labels(place: pathlib.Path, count: int) -> np.ndarray:
    """int32 [N] of a file of one-hot rows; UsageError where it holds anything else."""
    try:
        rows = np.load(place)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{place} cannot be read ({reason(error)}): {REMEDY}, or take it away") from None
    require(
        rows.ndim == 2 and len(rows) == count and np.isin(rows, (0, 1)).all() and (rows.sum(1) == 1).all(),
        f"{place} does not give each of the {count} pictures one class (one-hot): take it away",
    )
    return rows.argmax(1).astype(np.int32)
