"""Builders of TensorFlow Datasets as small as they come: images given as arrays, or as encoded files."""

import io

import numpy as np
import tensorflow_datasets as tfds

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
