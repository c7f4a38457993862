"""Sets of TensorFlow Datasets downloaded and prepared without TensorFlow, once for all processes."""

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

from score_sde.data.records import FORMAT, INFO, reason
from score_sde.errors import UsageError, require
from score_sde.storage.locks import held

NEEDS_TENSORFLOW = ("lsun",)
"""Builders that would fail only after the download: LSUN's reads LMDB by tensorflow_io."""


def directory(name: str) -> str:
    """Where the set of a TFDS builder ("cifar10", "cifar10:3.0.2") is: prepared there first if need be.

    It is below $TFDS_DATA_DIR or ~/tensorflow_datasets. Raises UsageError for an unknown name and for a set that
    cannot be downloaded or prepared.
    """
    import tensorflow_datasets as tfds

    try:
        # The variable is read here because tensorflow_datasets reads it when it is imported.
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except Exception as error:  # an unknown name, version or config, or a directory that cannot be read
        raise UsageError(
            f"{name!r} is no builder of tensorflow_datasets ({reason(error)}): see tfds.list_builders()"
        ) from None
    place = pathlib.Path(builder.data_dir)
    if (place / INFO).exists():
        print(f"{name}: prepared in {place}", file=sys.stderr)
        return str(place)
    require(
        builder.name not in NEEDS_TENSORFLOW,
        f"{name} is not in {place}, and its builder cannot prepare it without TensorFlow: prepare it elsewhere and copy"
        " it there, or name its images in data.path, as a folder or a zip file",
    )
    try:
        _prepare(name, builder, place)
    except Exception as error:  # the network, the disk, a download that has moved, a builder that needs TensorFlow
        raise UsageError(
            f"{name} cannot be prepared in {place} ({type(error).__name__}: {reason(error)}): prepare it elsewhere"
            " and copy it there, or name its images in data.path, as a folder or a zip file"
        ) from None
    return str(place)


def _prepare(name: str, builder: Any, place: pathlib.Path) -> None:
    """Download and prepare, unless another process has done so by the time that the lock beside the set is ours."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with held(pathlib.Path(f"{place}.lock"), f"{name}: waiting for another process, which is preparing {place}"):
        if (place / INFO).exists():
            return
        print(f"{name}: downloading and preparing into {place}", file=sys.stderr, flush=True)
        with without_tensorflow(builder):
            builder.download_and_prepare(file_format=FORMAT)


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
