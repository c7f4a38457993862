"""TFDS without TensorFlow: builders run here and read back, the real ones of CIFAR-10 and SVHN on files made here."""

import io
import json
import pathlib
import pickle
import re
import shutil
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.core.features import image_feature

from score_sde.data.account import Account
from score_sde.data.cache import Cache
from score_sde.data.pictures import Format, Pictures
from score_sde.data.preparing import directory, without_tensorflow
from score_sde.data.records import prepared
from score_sde.errors import UsageError
from score_sde.storage.locks import held
from tests.data import builders
from tests.data.builders import IMAGES, LABELS, as_tfrecord
from tests.data.making import random_images

FORM = Format(8, 3)


def prepare(builder_class: type, place: pathlib.Path) -> str:
    builder = builder_class(data_dir=str(place))
    with without_tensorflow(builder):
        builder.download_and_prepare(file_format="array_record")
    return str(builder.data_dir)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def given(place):
    return prepare(builders.Given, place)


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"))


def images(files, channels: int = 3) -> np.ndarray:
    return Pictures(files, Format(8, channels))[np.arange(len(files))]


def numbers(found: np.ndarray, originals: np.ndarray) -> list[int]:
    """Which of the originals the images are, to the bit."""
    known = {image.tobytes(): i for i, image in enumerate(originals)}
    return [known[image.tobytes()] for image in found]


def assert_is_the_set(found):
    train, held_out = numbers(images(found.train), IMAGES), numbers(images(found.held_out), IMAGES)
    assert (sorted(train), sorted(held_out)) == (list(range(20)), list(range(20, 30)))
    np.testing.assert_array_equal(found.labels, LABELS[train])
    np.testing.assert_array_equal(found.held_out_labels, LABELS[held_out])
    assert found.labels.dtype == np.int32
    assert found.classes == ("cat", "dog", "eel")


def test_arrays_come_back(given, cache):
    assert_is_the_set(prepared(given, FORM, cache))
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("kind", [builders.Encoded, builders.Numbers])
def test_files_and_tensors_come_back(place, cache, kind):
    assert_is_the_set(prepared(prepare(kind, place), FORM, cache))


def test_one_split_and_no_labels(place, cache):
    found = prepared(prepare(builders.Grey, place), FORM, cache)
    assert sorted(numbers(images(found.train, 1), IMAGES[..., :1])) == list(range(20))
    assert (len(found.held_out), found.labels, found.held_out_labels, found.classes) == (0, None, None, ())


@pytest.mark.parametrize("size, warned", [(64, False), (65, True)])
def test_records_in_large_groups_are_warned_of(size, warned, given, cache, tmp_path, capsys):
    copy = shutil.copytree(given, tmp_path / "given" / "1.0.0")
    for file in copy.glob("*.array_record*"):
        reader = ArrayRecordReader(str(file))
        records = reader.read_all()
        reader.close()
        writer = ArrayRecordWriter(str(file), f"group_size:{size}")
        [writer.write(record) for record in records]
        writer.close()
    capsys.readouterr()
    assert_is_the_set(prepared(str(copy), FORM, cache))
    said = capsys.readouterr().err
    assert ("its files keep 65 records in a group" in said and "option group_size:1" in said) == warned


SHARDS = {"train": [7, 0, 9, 4], "test": [10]}


@pytest.fixture(scope="module")
def tfrecord(given, place):
    """The same set in the default format."""
    return as_tfrecord(given, place / "tfrecord", SHARDS)


def test_the_default_format(given, tfrecord, cache):
    assert_is_the_set(prepared(tfrecord, FORM, cache))
    for one, other in zip(prepared(given, FORM, cache)[:2], prepared(tfrecord, FORM, cache)[:2]):
        assert [one.read(i) for i in range(len(one))] == [other.read(i) for i in range(len(other))]
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("kind", [builders.Encoded, builders.Numbers])
def test_files_and_tensors_in_the_default_format(place, tmp_path, cache, kind):
    directory = as_tfrecord(prepare(kind, place), tmp_path / "tfrecord")
    assert_is_the_set(prepared(directory, FORM, cache))
    assert_is_the_set(prepared(directory, FORM, Cache(str(tmp_path / "nothing"), 0.0)))
    assert not (tmp_path / "nothing").exists()


def test_one_split_in_the_default_format(place, tmp_path, cache):
    found = prepared(as_tfrecord(prepare(builders.Grey, place), tmp_path / "tfrecord"), FORM, cache)
    assert sorted(numbers(images(found.train, 1), IMAGES[..., :1])) == list(range(20))
    assert len(found.held_out) == 0


def test_a_description_of_older_versions(tfrecord, tmp_path, cache):
    """They wrote no format and no template of the files' names."""
    shutil.copytree(tfrecord, tmp_path / "old")
    info = json.loads((tmp_path / "old" / "dataset_info.json").read_text())
    del info["fileFormat"]
    for split in info["splits"]:
        del split["filepathTemplate"]
    (tmp_path / "old" / "dataset_info.json").write_text(json.dumps(info))
    assert_is_the_set(prepared(str(tmp_path / "old"), FORM, cache))


def test_of_two_formats_that_with_random_access(given, tfrecord, tmp_path, cache, monkeypatch):
    directory = as_tfrecord(given, tmp_path / "both", alternativeFileFormats=["array_record"])
    for file in pathlib.Path(given).glob("*array_record*"):
        shutil.copy(file, directory)
    monkeypatch.setattr("score_sde.data.records.indexed", lambda *args: pytest.fail("indexed"))
    assert_is_the_set(prepared(directory, FORM, cache))


def test_a_set_in_the_default_format_is_found_by_its_name(given, tmp_path, cache, monkeypatch):
    (tmp_path / "given").mkdir()
    as_tfrecord(given, tmp_path / "given" / "1.0.0")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(builders.Given, "download_and_prepare", lambda *args, **options: pytest.fail("prepared anew"))
    assert_is_the_set(prepared(directory("given"), FORM, cache))


def damaged(tfrecord: str, place: pathlib.Path, **changes: bytes | None) -> str:
    """A copy with shards of the training split that have another content, or are gone."""
    shutil.copytree(tfrecord, place)
    for number, content in changes.items():
        file = place / f"given-train.tfrecord-0000{number[-1]}-of-00004"
        file.unlink() if content is None else file.write_bytes(content)
    return str(place)


def test_what_is_wrong_with_a_shard_is_said(tfrecord, tmp_path, cache):
    third = pathlib.Path(tfrecord, "given-train.tfrecord-00002-of-00004").read_bytes()
    flipped = bytearray(third)
    flipped[len(third) - 10] ^= 1
    last = builders.places(third)[-1]
    with pytest.raises(
        UsageError, match=rf"flipped/.*-00002-of-00004: the record at byte {last} is damaged \(wrong chec"
    ):
        prepared(damaged(tfrecord, tmp_path / "flipped", shard2=bytes(flipped)), FORM, cache)
    with pytest.raises(UsageError, match=rf"cut/.*-00002-of-00004: the record at byte {last} is cut \(it ends at"):
        prepared(damaged(tfrecord, tmp_path / "cut", shard2=third[:-1]), FORM, cache)
    with pytest.raises(
        UsageError, match=r"gone/.*-00002-of-00004 cannot be read \(No such file or directory\): put it"
    ):
        prepared(damaged(tfrecord, tmp_path / "gone", shard2=None), FORM, cache)
    with pytest.raises(
        UsageError, match=r"short/.*-00002-of-00004 has 8 records where dataset_info\.json says 9: copy"
    ):
        prepared(damaged(tfrecord, tmp_path / "short", shard2=third[:last]), FORM, cache)


def test_a_shard_that_changes_is_read_anew(tfrecord, tmp_path, cache):
    directory = damaged(tfrecord, tmp_path / "set")
    before = prepared(directory, FORM, cache)
    stamp = before.train.stamp()
    third = pathlib.Path(directory, "given-train.tfrecord-00002-of-00004")
    content = third.read_bytes()
    second = builders.places(content)[1]
    third.write_bytes(content[second:] + content[:second])
    after = prepared(directory, FORM, cache)
    assert after.train.stamp() != stamp
    assert_is_the_set(after)
    order = [*range(7), *range(8, 16), 7, *range(16, 20)]
    np.testing.assert_array_equal(after.labels, before.labels[order])


@pytest.mark.parametrize("kind", ["given", "tfrecord"])
def test_a_copy_reads_for_itself(cache, request, kind):
    found = prepared(request.getfixturevalue(kind), FORM, cache).train
    images(found)
    np.testing.assert_array_equal(images(pickle.loads(pickle.dumps(found))), images(found))


def test_labels_are_read_once(given, cache, monkeypatch):
    first = prepared(given, FORM, cache).labels
    monkeypatch.setattr("score_sde.data.records.Records.read", lambda *args: pytest.fail("read again"))
    np.testing.assert_array_equal(prepared(given, FORM, cache).labels, first)


def test_only_what_is_asked_for_is_decoded(given, cache, monkeypatch):
    found = prepared(given, FORM, cache).train
    monkeypatch.setattr(tfds.features.ClassLabel, "decode_example_np", lambda *args: pytest.fail("decoded"))
    assert len(images(found)) == 20


def test_the_patches_are_taken_back(place):
    before = image_feature._ImageEncoder._encode_image
    with pytest.raises(RuntimeError), without_tensorflow(builders.Given(data_dir=str(place))):
        assert image_feature._ImageEncoder._encode_image is not before
        raise RuntimeError
    assert image_feature._ImageEncoder._encode_image is before
    assert builders.tf is None


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (random_images(1)[0], {"shape": (8, 8, 3)}),
        (random_images(1, channels=1)[0], {"shape": (8, 8, 1)}),
        (random_images(1, channels=4)[0], {"shape": (8, 8, 4)}),
        (random_images(1, channels=1)[0].astype(np.uint16) * 257, {"shape": (8, 8, 1), "dtype": np.uint16}),
    ],
)
def test_the_encoder_loses_nothing(place, image, options):
    with without_tensorflow(builders.Given(data_dir=str(place))):
        encoded = tfds.features.Image(**options).encode_example(image)
    assert encoded[:4] == b"\x89PNG"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))).reshape(image.shape), image)


def test_a_name_is_prepared_and_then_found(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert_is_the_set(prepared(directory("given"), FORM, cache))
    assert f"given: downloading and preparing into {tmp_path}/given/1.0.0" in capsys.readouterr().err
    assert_is_the_set(prepared(directory("given:1.0.0"), FORM, cache))
    assert f"given:1.0.0: prepared in {tmp_path}/given/1.0.0" in capsys.readouterr().err


def test_who_comes_second_waits_and_finds_it_prepared(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    (tmp_path / "given").mkdir()
    found = []
    with held(tmp_path / "given" / "1.0.0.lock"):
        thread = threading.Thread(target=lambda: found.append(directory("given")))
        thread.start()
        said = ""
        while thread.is_alive() and "waiting" not in said:
            said += capsys.readouterr().err
        assert f"given: waiting for another process, which is preparing {tmp_path}/given/1.0.0\n" in said
        prepare(builders.Given, tmp_path)
        monkeypatch.setattr(builders.Given, "download_and_prepare", lambda *args, **options: pytest.fail("prepared"))
    thread.join()
    assert_is_the_set(prepared(found[0], FORM, cache))


def test_the_real_cifar10_builder(tmp_path, cache, monkeypatch):
    """On files of its format, 8 images each: a label byte and 3 x 32 x 32 bytes."""
    some, labels = random_images(48, 32), np.arange(48) % 10
    rows = np.concatenate([labels[:, None].astype(np.uint8), some.transpose(0, 3, 1, 2).reshape(48, -1)], 1)
    files = tmp_path / "files" / "cifar-10-batches-bin"
    files.mkdir(parents=True)
    for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        (files / name).write_bytes(rows[8 * i : 8 * i + 8].tobytes())
    (files / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda self, url: str(files.parent))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    found = prepared(directory("cifar10"), FORM, cache)
    train, held_out = (
        numbers(Pictures(part, Format(32, 3))[np.arange(len(part))], some) for part in (found.train, found.held_out)
    )
    assert (sorted(train), sorted(held_out)) == (list(range(40)), list(range(40, 48)))
    np.testing.assert_array_equal(found.labels, labels[train])
    np.testing.assert_array_equal(found.held_out_labels, labels[held_out])
    assert found.classes == tuple("abcdefghij")


def test_the_real_svhn_builder(tmp_path, cache, monkeypatch):
    """It reads MATLAB files through TensorFlow's file system; zeros are written as 10."""
    scipy_io = pytest.importorskip("scipy.io")
    some, labels = random_images(12, 32), np.arange(12) % 10
    paths = {}
    for i, name in enumerate(("train", "test", "extra")):
        paths[name] = str(tmp_path / f"{name}.mat")
        part, digits = some[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4]
        scipy_io.savemat(
            paths[name], {"X": part.transpose(1, 2, 3, 0), "y": np.where(digits == 0, 10, digits)[:, None]}
        )
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, urls: paths)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    found = prepared(directory("svhn_cropped"), FORM, cache)
    train = numbers(Pictures(found.train, Format(32, 3))[np.arange(4)], some)
    assert sorted(train) == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.labels, labels[train])
    assert len(found.held_out) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuchset", r"'nosuchset' is no builder of tensorflow_datasets \(Dataset nosuchset not found\)"),
        ("cifar10:1.0.0", r"'cifar10:1\.0\.0' is no builder .*only: 3\.0\.2\)"),
        ("lsun/nothing", r"'lsun/nothing' is no builder .*BuilderConfig nothing not found"),
        ("lsun/bedroom", r"lsun/bedroom is not in .*without TensorFlow: prepare it elsewhere"),
    ],
)
def test_names_that_cannot_be_had(tmp_path, monkeypatch, name, message):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        directory(name)


def test_a_failed_preparation_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def fail(*args):
        raise ConnectionError("Failed to resolve 'www.cs.toronto.edu'\nand more")

    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", fail)
    message = r"cifar10 cannot be prepared in .* \(ConnectionError: Failed to resolve .*edu'\): prepare it elsewhere"
    with pytest.raises(UsageError, match=message) as error:
        directory("cifar10")
    assert "\n" not in str(error.value)


def test_splits_by_their_names(tmp_path, cache):
    found = prepared(prepare(builders.Parts, tmp_path), FORM, cache)
    assert (len(found.train), len(found.held_out)) == (20, 3)
    assert sorted(numbers(images(found.held_out), IMAGES)) == [22, 23, 24]
    assert found.account == Account("testing", {"in the split dev": 2, "in the split extra": 4})


def test_examples_without_a_class(tmp_path, cache, capsys):
    """Only who asks for labels is stopped."""
    place = prepare(builders.Unlabelled, tmp_path)
    found = prepared(place, FORM, cache)
    assert (len(found.train), found.labels, found.classes) == (20, None, ())
    message = r"has 10 examples without a class \(their label is below 0\): leave the label out of data\.condition"
    assert re.search(rf"no labels are taken, .*{message}", capsys.readouterr().err)
    with pytest.raises(UsageError, match=message):
        prepared(place, FORM, cache, asked=True)


def test_directories_that_cannot_be_used(tmp_path, given, cache):
    with pytest.raises(UsageError, match=r"holds no dataset_info\.json: name the directory of a version"):
        prepared(str(pathlib.Path(given).parent), FORM, cache)

    def changed(name: str, **changes) -> str:
        shutil.copytree(given, tmp_path / name)
        info = tmp_path / name / "dataset_info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | changes))
        return str(tmp_path / name)

    remedy = (
        r"is stored as riegeli, which is not read here: prepare the set anew with download_and_prepare\(file_format="
    )
    with pytest.raises(UsageError, match=remedy):
        prepared(changed("riegeli", fileFormat="riegeli"), FORM, cache)
    splits = json.loads((pathlib.Path(given) / "dataset_info.json").read_text())["splits"]
    with pytest.raises(UsageError, match=r"has the splits \['test'\] and no train"):
        prepared(changed("test_only", splits=[split for split in splits if split["name"] == "test"]), FORM, cache)
    broken = changed("broken")
    (pathlib.Path(broken) / "dataset_info.json").write_text("{")
    with pytest.raises(UsageError, match=r"broken cannot be used \(.+\): prepare it anew"):
        prepared(broken, FORM, cache)
    truncated = changed("truncated")
    for file in pathlib.Path(truncated).glob("*train*"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"truncated:train\[0\] cannot be read"):
        prepared(truncated, FORM, cache)
