"""Builders of TensorFlow Datasets as small as they come, and TFRecord files like those that TensorFlow writes."""

import io
import json
import pathlib
import shutil
import struct

import google_crc32c
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tests.data.making import picture, random_images

IMAGES = random_images(30)
LABELS = np.arange(30) % 3
tf = None  # the other builders that need its files and nothing else have it by this name


class Given(tfds.core.GeneratorBasedBuilder):
    """20 arrays to train on, 10 to test; the last third of each label is `eel`."""

    VERSION = tfds.core.Version("1.0.0")
    held_out = "test"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": self.feature(), "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def feature(self):
        return tfds.features.Image(shape=(8, 8, 3))

    def value(self, image: np.ndarray):
        return image

    def _split_generators(self, manager):
        return {"train": self._generate_examples(0, 20), self.held_out: self._generate_examples(20, 30)}

    def _generate_examples(self, first: int, last: int):
        for i in range(first, last):
            yield i, {"image": self.value(IMAGES[i]), "label": int(LABELS[i])}


class Encoded(Given):
    """The same as PNG files, and with a validation split."""

    held_out = "validation"

    def value(self, image: np.ndarray):
        file = io.BytesIO()
        picture(image).save(file, "png")
        file.seek(0)
        return file


class Numbers(Given):
    """The same as plain tensors."""

    def feature(self):
        return tfds.features.Tensor(shape=(8, 8, 3), dtype=np.uint8)


class Parts(Given):
    """Four splits, none of them by the common names."""

    def _split_generators(self, manager):
        sizes = {"training": (0, 20), "dev": (20, 22), "testing": (22, 25), "extra": (25, 29)}
        return {name: self._generate_examples(*size) for name, size in sizes.items()}


class Unlabelled(Given):
    """As ImageNet's test pictures: the class -1."""

    def _generate_examples(self, first: int, last: int):
        for i in range(first, last):
            yield i, {"image": self.value(IMAGES[i]), "label": -1 if i >= 20 else int(LABELS[i])}


class Grey(Given):
    """One channel, no labels and one split."""

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"picture": tfds.features.Image(shape=(8, 8, 1)), "id": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(0, 20)}

    def _generate_examples(self, first: int, last: int):
        for i in range(first, last):
            yield i, {"picture": IMAGES[i, ..., :1], "id": str(i)}


def checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def framed(*records: bytes) -> bytes:
    """The content of a TFRecord file."""
    lengths = [struct.pack("<Q", len(record)) for record in records]
    return b"".join(n + checksum(n) + record + checksum(record) for n, record in zip(lengths, records))


def places(content: bytes) -> list[int]:
    """The offsets of the records of a file."""
    found = [0]
    while found[-1] < len(content):
        found.append(found[-1] + 16 + struct.unpack_from("<Q", content, found[-1])[0])
    return found[:-1]


def example(**features: bytes | list[int]) -> bytes:
    """A tf.train.Example; two underscores of a name are a slash."""
    made = tf_example_pb2.Example()  # pyright: ignore[reportAttributeAccessIssue]
    for name, value in features.items():
        feature = made.features.feature[name.replace("__", "/")]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.extend(value)
    return made.SerializeToString(deterministic=True)


def stylegan(path: pathlib.Path, images: np.ndarray) -> pathlib.Path:
    """A file of images [N, H, W, C] as StyleGAN's dataset_tool.py writes it."""
    chw = images.transpose(0, 3, 1, 2)
    path.write_bytes(framed(*(example(shape=list(image.shape), data=image.tobytes()) for image in chw)))
    return path


def as_tfrecord(directory: str, place: pathlib.Path, lengths: dict[str, list[int]] | None = None, **changes) -> str:
    """A prepared directory as tensorflow_datasets makes it by default; how many records a shard has, by the split."""
    shutil.copytree(directory, place, ignore=shutil.ignore_patterns("*array_record*"))
    builder = tfds.builder_from_directory(directory)
    info = json.loads((place / "dataset_info.json").read_text())
    for split in info["splits"]:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        records = [*builder.as_data_source(split["name"], deserialize_method=raw)]
        counts = (lengths or {}).get(split["name"], [len(records)])
        ends = np.cumsum(counts).tolist()
        for i, (count, end) in enumerate(zip(counts, ends)):
            name = f"{info['name']}-{split['name']}.tfrecord-{i:05d}-of-{len(counts):05d}"
            (place / name).write_bytes(framed(*records[end - count : end]))
        split["shardLengths"] = [str(count) for count in counts]
    info = {"fileFormat": "tfrecord"} | {name: value for name, value in info.items() if name != "fileFormat"} | changes
    (place / "dataset_info.json").write_text(json.dumps(info))
    return str(place)
