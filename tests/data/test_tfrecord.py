"""TFRecord files: where records are, what is wrong with them, and the pictures that StyleGAN and others keep there."""

import dataclasses
import gzip
import io
import multiprocessing
import operator
import os
import pathlib
import pickle
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from score_sde.data import tfrecord
from score_sde.data.cache import Cache
from score_sde.data.examples import holds, pictures
from score_sde.data.pictures import Format, Pictures
from score_sde.data.tfrecord import indexed
from score_sde.errors import UsageError
from tests.data.builders import example, framed, stylegan
from tests.data.making import picture, random_images

GOLDEN = bytes.fromhex(
    "06000000000000007369d5377265636f726405de2bfc000000000000000029039807d8ea82a23a000000000000001295eae20a380a240a046461"
    "7461121c0a1a0a18000102030405060708090a0b0c0d0e0f10111213141516170a100a05736861706512071a050a03030204c2eb8c9a"
)
"""Written by tensorflow-cpu 2.21.0's tf.io.TFRecordWriter: b"record", b"", and a tf.train.Example, serialized with
deterministic=True, of `shape` [3, 2, 4] (Int64List) and `data` bytes(range(24)) (BytesList)."""

CHW = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
SOME = [b"one", b"", b"three" * 3]
FORM = Format(8, 3)


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"))


def written(place: pathlib.Path, content: bytes) -> str:
    place.write_bytes(content)
    return str(place)


def everything(records: tfrecord.TFRecords) -> list[bytes]:
    return [records[i] for i in range(len(records))]


def all_images(found, size: int, channels: int = 3) -> np.ndarray:
    return Pictures(found.train, Format(size, channels))[np.arange(len(found.train))]


def test_tensorflows_own_bytes(tmp_path, cache):
    records = indexed([written(tmp_path / "a", GOLDEN)], cache)
    assert everything(records) == [b"record", b"", example(shape=[3, 2, 4], data=CHW.tobytes())]
    assert framed(*everything(records)) == GOLDEN
    alone = pictures(written(tmp_path / "b", GOLDEN[38:]), FORM, cache).train
    np.testing.assert_array_equal(alone.read(0), CHW.transpose(1, 2, 0))


def test_records_of_several_files_in_any_order(tmp_path, cache):
    rng = np.random.default_rng(0)
    contents = [[rng.bytes(length) for length in rng.integers(0, 5000, count)] for count in (7, 0, 1, 40)]
    paths = [written(tmp_path / f"{i}", framed(*content)) for i, content in enumerate(contents)]
    records, expected = indexed(paths, cache), [record for content in contents for record in content]
    assert records.table.dtype == np.int64 and records.table.shape == (48, 3)
    for i in rng.permutation(48).tolist():
        assert records[i] == expected[i]


def test_a_cut_file_is_named_with_the_offset_wherever_it_is_cut(tmp_path, cache):
    content = framed(*SOME)
    starts = [len(framed(*SOME[:i])) for i in range(4)]
    for end in range(1, len(content)):
        path = written(tmp_path / "cut.tfrecord", content[:end])
        if end in starts:
            assert everything(indexed([path], cache)) == SOME[: starts.index(end)]
            continue
        start = max(at for at in starts if at < end)
        with pytest.raises(
            UsageError, match=rf"cut\.tfrecord: the record at byte {start} is cut \(.*\): copy, download"
        ):
            indexed([path], cache)


def test_every_flipped_bit_is_found_and_its_record_named(tmp_path, cache):
    content = framed(*SOME)
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        start = max(at for at in (len(framed(*SOME[:i])) for i in range(3)) if at <= position // 8)
        path = written(tmp_path / f"{position}.tfrecord", bytes(flipped))
        message = (
            rf"{position}\.tfrecord: the record at byte {start} is damaged \(wrong checksum of its (length|data)\)"
        )
        with pytest.raises(UsageError, match=message):
            everything(indexed([path], Cache(limit=0.0)))


def test_what_is_wrong_with_whole_files(tmp_path, cache):
    with pytest.raises(UsageError, match=r"empty\.tfrecord is empty: copy, download or write the file anew"):
        indexed([written(tmp_path / "empty.tfrecord", b"")], cache)
    with pytest.raises(
        UsageError, match=r"packed: the record at byte 0 is damaged \(.*\): unpack the file with gunzip"
    ):
        indexed([written(tmp_path / "packed", gzip.compress(framed(*SOME)))], cache)
    with pytest.raises(UsageError, match=r"missing cannot be read \(No such file"):
        indexed([str(tmp_path / "missing")], cache)


def test_a_file_that_changes_under_the_index(tmp_path, cache):
    path = written(tmp_path / "a", framed(*SOME))
    records = indexed([path], cache)
    assert records[2] == SOME[2]
    os.truncate(path, len(framed(*SOME)) - 6)
    with pytest.raises(
        UsageError, match=rf"a: the record at byte {len(framed(*SOME[:2]))} is cut, or the file has changed"
    ):
        records[2]
    os.truncate(path, len(framed(*SOME[:2])) + 5)
    with pytest.raises(UsageError, match=r"is cut \(within its header\)"):
        records[2]
    with open(path, "r+b") as file:
        file.write(framed(b"other"))
    with pytest.raises(UsageError, match=r"a: the record at byte 0 is cut, or the file has changed: copy"):
        records[0]


def test_the_index_is_made_once(tmp_path, cache, monkeypatch):
    path = written(tmp_path / "a", framed(*SOME))
    indexed([path], cache)
    scan = tfrecord._scan
    monkeypatch.setattr(tfrecord, "_scan", lambda *args: pytest.fail("scanned again"))
    assert everything(indexed([path], cache)) == SOME
    os.utime(path, (1, 1))
    with pytest.raises(pytest.fail.Exception, match="scanned again"):
        indexed([path], cache)
    monkeypatch.setattr(tfrecord, "_scan", scan)
    assert everything(indexed([path], cache)) == SOME
    written(tmp_path / "a", framed(*SOME, b"fourth"))
    assert everything(indexed([path], cache)) == [*SOME, b"fourth"]


def test_a_damaged_index_is_made_anew(tmp_path, cache):
    path = written(tmp_path / "a", framed(*SOME))
    indexed([path], cache)
    (index,) = cache.path.glob("*.npy")
    damaged = bytearray(index.read_bytes())
    damaged[-20] ^= 1
    index.write_bytes(damaged)
    assert everything(indexed([path], cache)) == SOME


def test_a_cache_that_cannot_be_written(tmp_path):
    path = written(tmp_path / "a", framed(*SOME))
    place = written(tmp_path / "file", b"no directory")
    with pytest.raises(UsageError, match=r"data\.cache=.*file' cannot be written .*data\.cache_limit=0\.0"):
        indexed([path], Cache(place))
    assert everything(indexed([path], Cache(place, 0.0))) == SOME
    assert not (tmp_path / "cache").exists()


def test_a_copy_reads_in_another_process(tmp_path, cache):
    records = indexed([written(tmp_path / "a", framed(*SOME))], cache)
    assert everything(records) == SOME
    assert everything(pickle.loads(pickle.dumps(records))) == SOME
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(operator.getitem, records, 2).result() == SOME[2]


@pytest.mark.parametrize("kept", [0, 1, 64])
def test_threads_share_what_is_open_and_no_more_is_open_than_allowed(tmp_path, cache, monkeypatch, kept):
    monkeypatch.setattr(tfrecord, "KEPT", kept)
    contents = [[bytes([i]) * 1000, bytes([i, 1]) * 500] for i in range(3)]
    paths = [written(tmp_path / f"{i}", framed(*content)) for i, content in enumerate(contents)]
    records = indexed(paths, cache)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(operator.getitem, [records] * 600, list(range(6)) * 100))
    assert found == [record for content in contents for record in content] * 100
    opened = list(records._opened.values())
    assert len(opened) == min(kept, 3)
    del records
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("channels", [1, 3])
def test_stylegans_channels_come_last(tmp_path, cache, channels):
    images = random_images(5, 8, channels)
    found = pictures(str(stylegan(tmp_path / "faces.tfrecords", images)), Format(8, channels), cache)
    np.testing.assert_array_equal(all_images(found, 8, channels), images)
    np.testing.assert_array_equal(found.train.read(3), images[3])
    assert (len(found.held_out), found.labels, found.classes) == (0, None, ())
    assert found.train.name(1).endswith(f"faces.tfrecords: the record at byte {found.train.records.table[1, 1]}")


@pytest.fixture
def levels(tmp_path):
    """Files of 4x4 to 16x16, as StyleGAN has them, in a directory."""
    place = tmp_path / "faces"
    place.mkdir()
    for level in (2, 3, 4):
        stylegan(place / f"faces-r{level:02d}.tfrecords", random_images(5, 2**level, seed=level))
    return place


def test_the_file_that_suits_the_size(levels, cache, capsys):
    for level in (2, 3, 4):
        found = pictures(str(levels), Format(2**level, 3), cache)
        np.testing.assert_array_equal(all_images(found, 2**level), random_images(5, 2**level, seed=level))
    assert capsys.readouterr().err == ""
    larger = pictures(str(levels), Format(6, 3), cache).train
    np.testing.assert_array_equal(larger.read(0), random_images(5, 8, seed=3)[0])
    said = "faces: no file has pictures of 6x6, so those of faces-r03.tfrecords (8x8) are resized\n"
    assert capsys.readouterr().err.endswith(said)
    smaller = pictures(str(levels), Format(64, 3), cache).train
    np.testing.assert_array_equal(smaller.read(0), random_images(5, 16, seed=4)[0])
    assert (
        "no file has pictures of 64x64, so those of faces-r04.tfrecords (16x16) are resized" in capsys.readouterr().err
    )


def test_directories_of_several_sets_are_refused(levels, cache):
    stylegan(levels / "places-r03.tfrecords", random_images(5))
    message = r"holds TFRecord files of several sets, such as faces-r02\.tfrecords and places-r03\.tfrecords: name one"
    with pytest.raises(UsageError, match=message):
        pictures(str(levels), FORM, cache)


@pytest.mark.parametrize("other", ["val-00001.tfrecord", "train-r03.tfrecords", "train.tfrecord"])
def test_files_of_one_set_are_called_alike(tmp_path, cache, other):
    for name in ("train-00001.tfrecord", other):
        stylegan(tmp_path / name, random_images(2))
    with pytest.raises(UsageError, match="holds TFRecord files of several sets, such as"):
        pictures(str(tmp_path), FORM, cache)


@pytest.mark.parametrize("name", ["train-{:05d}-of-00003.tfrecord", "set.tfrecord-{:05d}-of-00003", "{}.tfrecords"])
def test_shards_are_one_set_in_the_order_of_their_names(tmp_path, cache, name):
    images = random_images(6)
    for i in range(3):
        stylegan(tmp_path / name.format(i), images[2 * i : 2 * i + 2])
    np.testing.assert_array_equal(all_images(pictures(str(tmp_path), FORM, cache), 8), images)


def one_hot(labels: list[int], count: int = 3) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[labels]


def test_the_labels_beside_stylegans_files(levels, cache, capsys):
    with (levels / "faces-rxx.labels").open("wb") as file:
        np.save(file, one_hot([2, 0, 1, 1, 2]))
    for path in (levels, levels / "faces-r03.tfrecords"):
        found = pictures(str(path), FORM, cache)
        np.testing.assert_array_equal(found.labels, [2, 0, 1, 1, 2])
        assert found.labels.dtype == np.int32 and found.held_out_labels is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "rows", [one_hot([0, 1]), np.ones((5, 3), np.float32), np.zeros((5, 0), np.float32), np.arange(5)]
)
def test_labels_that_are_no_classes_are_left_out(levels, cache, capsys, rows):
    with (levels / "faces-rxx.labels").open("wb") as file:
        np.save(file, rows)
    assert pictures(str(levels), FORM, cache).labels is None
    message = r"faces-rxx\.labels does not give each of the 5 pictures one class"
    assert re.search(rf"no labels are taken, .*{message}", capsys.readouterr().err)
    with pytest.raises(UsageError, match=message):
        pictures(str(levels), FORM, cache, asked=True)


def test_labels_that_cannot_be_read(levels, cache, capsys):
    (levels / "faces-rxx.labels").write_bytes(b"nothing")
    message = r"faces-rxx\.labels cannot be read \(it does not begin as np\.save's files do\): copy, download or"
    with pytest.raises(UsageError, match=message):
        pictures(str(levels), FORM, cache, asked=True)
    assert pictures(str(levels), FORM, cache).labels is None
    assert re.search(rf"no labels are taken, .*{message}", capsys.readouterr().err)


def encoded(image: np.ndarray, form: str = "png") -> bytes:
    file = io.BytesIO()
    picture(image).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("name", ["image__encoded", "jpeg", "data"])
def test_encoded_pictures(tmp_path, cache, name):
    images = random_images(3)
    made = [example(**{name: encoded(image), "id": b"7", "shape": [8, 8, 3], "label": [1]}) for image in images]
    found = pictures(written(tmp_path / "a", framed(*made)), FORM, cache)
    np.testing.assert_array_equal(all_images(found, 8), images)


def test_the_usual_name_is_chosen_of_several_encoded_pictures(tmp_path, cache):
    images = random_images(2)
    both = example(image__encoded=encoded(images[0]), mask=encoded(images[1]))
    found = pictures(written(tmp_path / "a", framed(both)), FORM, cache)
    np.testing.assert_array_equal(all_images(found, 8), images[:1])
    two = example(left=encoded(images[0]), right=encoded(images[1]))
    with pytest.raises(
        UsageError, match=r"two has records with the features \['left', 'right'\], 2 of them encoded pict"
    ):
        pictures(written(tmp_path / "two", framed(two)), FORM, cache)


@pytest.mark.parametrize("content", [example(text=b"words", number=[3]), example(shape=[3, 8, 8], data=b"short"), b""])
def test_records_without_a_picture(tmp_path, cache, content):
    with pytest.raises(
        UsageError, match=r"a has records with the features \[.*\], 0 of them encoded pictures: one, or"
    ):
        pictures(written(tmp_path / "a", framed(content)), FORM, cache)


def test_records_that_are_no_examples(tmp_path, cache):
    with pytest.raises(UsageError, match=r"a: the record at byte 0 is no tf\.train\.Example: name a file of these"):
        pictures(written(tmp_path / "a", framed(b"\xff" * 9)), FORM, cache)


@pytest.mark.parametrize("shape", [[3, 2, 5], [4, 2, 3], [24], [], [-3, -2, 4], [3, 0, 4]])
def test_a_later_record_of_another_shape_is_named(tmp_path, cache, shape):
    good = example(shape=[3, 2, 4], data=CHW.tobytes())
    found = pictures(written(tmp_path / "a", framed(good, example(shape=shape, data=CHW.tobytes()))), FORM, cache)
    with pytest.raises(
        UsageError, match=rf"a: the record at byte {len(framed(good))} has the shape \(.*\) and 24 bytes"
    ):
        found.train.read(1)


def test_a_broken_picture_is_named(tmp_path, cache):
    made = [example(image__encoded=encoded(image)) for image in random_images(1)] + [example(image__encoded=b"broken")]
    found = pictures(written(tmp_path / "a", framed(*made)), FORM, cache)
    with pytest.raises(
        UsageError, match=rf"a: the record at byte {len(framed(made[0]))} cannot be decoded \(it is no PNG"
    ):
        all_images(found, 8)


def test_the_stamp_changes_with_the_file_and_the_feature(tmp_path, cache):
    path = stylegan(tmp_path / "a.tfrecords", random_images(2))
    found = pictures(str(path), FORM, cache).train
    stamp = found.stamp()
    assert dataclasses.replace(found, feature="other").stamp() != stamp
    os.utime(path, (1, 1))
    assert found.stamp() != stamp
    assert pickle.loads(pickle.dumps(found)).stamp() == found.stamp()


def test_what_holds_records(tmp_path):
    place = tmp_path / "some"
    place.mkdir()
    assert not holds(place)
    named, right = written(place / "a.tfrecord-00000-of-00001", b""), written(tmp_path / "right", framed(b""))
    other, short = written(tmp_path / "other", b"\x93NUMPY" + bytes(100)), written(tmp_path / "short", b"a")
    found = [holds(pathlib.Path(path)) for path in (place, named, right, other, short, tmp_path / "missing")]
    assert found == [True, True, True, False, False, False]
