"""Folders and zip files of pictures: what is found, in which order, split and labels, and what is refused."""

import json
import pickle
import re
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from score_sde.data.account import Account
from score_sde.data.folder import folder, zip_file
from score_sde.data.pictures import Encoded, Files, Format, Pictures
from score_sde.errors import UsageError
from tests.data.making import random_images, write, zipped


def images(files: Files) -> np.ndarray:
    return Pictures(files, Format(8, 3))[np.arange(len(files))]


def both(path, tmp_path) -> list[Encoded]:
    """The folder, its zip file and a zip file of it below a folder of its own."""
    zips = [zipped(path, tmp_path / "a.zip"), zipped(path, tmp_path / "b.zip", "some/where/", zipfile.ZIP_STORED)]
    return [folder(str(path)), *(zip_file(str(z)) for z in zips)]


def test_pictures_come_back_in_the_order_of_their_paths(tmp_path):
    some = random_images(4)
    write(tmp_path / "set", some, ["b/1.png", "a.png", "b/0.PNG", "c.bmp"])
    (tmp_path / "set" / "notes.txt").write_text("not a picture")
    (tmp_path / "set" / ".hidden").mkdir()
    write(tmp_path / "set" / ".hidden", some)
    write(tmp_path / "set" / "__MACOSX", some, ["._a.png", "b.png", "c.png", "d.png"])
    for found in both(tmp_path / "set", tmp_path):
        np.testing.assert_array_equal(images(found.train), some[[1, 2, 0, 3]])
        assert (len(found.held_out), found.labels, found.classes) == (0, None, ())


def test_links_to_folders_are_followed_and_none_is_entered_twice(tmp_path):
    """A link elsewhere, a link to a folder above, and a second link to the same place."""
    some = random_images(3)
    write(tmp_path / "set", some[:2], ["a/0.png", "a/1.png"])
    write(tmp_path / "elsewhere", some[2:], ["2.png"])
    (tmp_path / "set" / "a" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = folder(str(tmp_path / "set"))
    np.testing.assert_array_equal(images(found.train), some)
    np.testing.assert_array_equal(found.labels, [0, 0, 1])


@pytest.mark.parametrize("test", ["test", "val", "validation", "valid"])
def test_split_and_labels_of_folders(tmp_path, test):
    some = random_images(5)
    names = ["train/cat/0.png", "train/cat/1.png", "train/dog/0.png", f"{test}/dog/0.png", f"{test}/eel/x/0.png"]
    for found in both(write(tmp_path / "set", some, names), tmp_path):
        np.testing.assert_array_equal(images(found.train), some[:3])
        np.testing.assert_array_equal(images(found.held_out), some[3:])
        np.testing.assert_array_equal(found.labels, [0, 0, 1])
        np.testing.assert_array_equal(found.held_out_labels, [1, 2])
        assert found.labels.dtype == np.int32
        assert found.classes == ("cat", "dog", "eel")


def test_what_is_in_neither_part_is_passed_over_and_counted(tmp_path):
    some = random_images(5)
    names = ["train/0.png", "train/1.png", "val/0.png", "test/0.png", "cover.png"]
    for found in both(write(tmp_path / "set", some, names), tmp_path):
        np.testing.assert_array_equal(images(found.train), some[:2])
        np.testing.assert_array_equal(images(found.held_out), some[3:4])
        assert found.account == Account("test", {"in val": 1, "beside the split": 1})
    found = folder(str(write(tmp_path / "two", some[:2], names[:2] + names[3:4])))
    assert found.account.passed_over == {}


def test_files_passed_over_are_counted_by_their_ending(tmp_path):
    place = write(tmp_path / "set", random_images(2), ["0.png", "a/1.png"])
    for name in ("2.heic", "a/3.HEIC", "4.npy", "README", ".hidden.npy", "dataset.json"):
        (place / name).write_text("{}")
    with Image.open(place / "0.png") as picture:
        picture.save(place / "5.jfif", "JPEG")
        picture.save(place / "6.jpe", "JPEG")
    for found in both(place, tmp_path):
        assert len(found.train) == 4
        assert found.account == Account("", {".heic": 2, ".npy": 1, "without an ending": 1})


def test_a_split_further_down_is_said(tmp_path):
    names = ["cat/train/0.png", "cat/test/1.png", "dog/2.png"]
    (line,) = folder(str(write(tmp_path / "set", random_images(3), names))).account.notes
    assert "cat holds test and train, which are a split only at the top: all of it is trained on" in line
    assert folder(str(tmp_path / "set" / "cat")).account == Account("test")


def test_one_folder_or_pictures_outside_of_any_are_no_classes(tmp_path):
    for number, names in enumerate((["cat/0.png", "cat/1.png"], ["cat/0.png", "dog/0.png", "2.png"])):
        found = folder(str(write(tmp_path / str(number), random_images(3), names)))
        assert (len(found.train), found.labels, found.classes) == (len(names), None, ())


@pytest.mark.parametrize("pairs", [True, False])
def test_labels_of_a_file(tmp_path, pairs):
    names = ["00000/img0.png", "00000/img1.png", "00001/img2.png"]
    write(tmp_path / "set", random_images(3), names)
    labels = {name: 7 - i for i, name in enumerate(names)}
    content = {"labels": [[name, label] for name, label in labels.items()]} if pairs else labels
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(content))
    for found in both(tmp_path / "set", tmp_path):
        np.testing.assert_array_equal(found.labels, [7, 6, 5])
        assert found.classes == ()
    (tmp_path / "set" / "dataset.json").write_text('{"labels": null}')
    assert all(found.labels is None for found in both(tmp_path / "set", tmp_path))


def test_labels_of_a_file_in_each_part_or_above_both(tmp_path):
    place = write(tmp_path / "set", random_images(3), ["train/a.png", "train/b.png", "test/a.png"])
    (place / "dataset.json").write_text('{"train/a.png": 1, "train/b.png": 2, "test/a.png": 3}')
    for found in both(place, tmp_path):
        assert (found.labels.tolist(), found.held_out_labels.tolist()) == ([1, 2], [3])
    (place / "train" / "dataset.json").write_text('{"a.png": 4, "b.png": 5}')
    for found in both(place, tmp_path):
        assert (found.labels.tolist(), found.held_out_labels.tolist()) == ([4, 5], [3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, r"dataset\.json is not understood: write"),
        ("{", r"dataset\.json is not understood: write"),
        ("[1]", r"dataset\.json is not understood"),
        ('{"labels": [1, 2]}', r"dataset\.json is not understood"),
        ('{"0.png": 1}', r"dataset\.json gives 1\.png the label None: give every picture an integer"),
        ('{"0.png": 1, "1.png": 0.5}', r"gives 1\.png the label 0\.5"),
        ('{"0.png": 1, "1.png": -1}', r"gives 1\.png the label -1"),
        ('{"0.png": 1, "1.png": [0, 1]}', r"gives 1\.png the label \[0, 1\]"),
    ],
)
def test_labels_that_are_none(tmp_path, capsys, content, message):
    write(tmp_path, random_images(2), ["0.png", "1.png"])
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        folder(str(tmp_path), ("label",))
    found = folder(str(tmp_path))
    assert (len(found.train), found.labels, found.classes) == (2, None, ())
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"no labels are taken, and data\.condition asks for none \(.*{message}", line)


def test_nothing_there(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match=r"holds no picture \(\.png, .*\), but 1 \.txt: name a directory or zip"):
        folder(str(tmp_path))
    zipped(tmp_path, tmp_path / "a.zip")
    with pytest.raises(UsageError, match=r"a\.zip holds no picture"):
        zip_file(str(tmp_path / "a.zip"))
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-10])
    with pytest.raises(UsageError, match=r"b\.zip cannot be read \(.*\): write the zip file anew"):
        zip_file(str(tmp_path / "b.zip"))


def test_zip_files_are_verified(tmp_path):
    path = zipped(write(tmp_path / "set", random_images(1)), tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.zip:00000\.png is damaged \(wrong checksum\)"):
        images(zip_file(str(path)).train)
    path = zipped(tmp_path / "set", tmp_path / "b.zip", method=zipfile.ZIP_LZMA)
    with pytest.raises(UsageError, match=r"b\.zip:00000\.png is encrypted or packed in a rare way: store or deflate"):
        zip_file(str(path))


def test_a_file_that_went_away(tmp_path):
    found = folder(str(write(tmp_path, random_images(1))))
    (tmp_path / "00000.png").unlink()
    with pytest.raises(UsageError, match=r"00000\.png cannot be read \(No such file or directory\)"):
        images(found.train)


def test_files_are_read_by_threads_and_by_whoever_unpickles_them(tmp_path):
    some = random_images(40)
    for found in both(write(tmp_path / "set", some), tmp_path):
        images(found.train)
        copy = pickle.loads(pickle.dumps(found.train))
        results = {}
        threads = [
            threading.Thread(target=lambda i=i, copy=copy, results=results: results.update({i: images(copy)}))
            for i in range(4)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        for i in range(4):
            np.testing.assert_array_equal(results[i], some)


def test_what_has_gone_is_named_by_its_stamp(tmp_path):
    place = write(tmp_path / "set", random_images(1))
    (place / "b.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UsageError, match=r"set/b\.png cannot be read \(No such file or directory\): put it back or"):
        folder(str(place)).train.stamp()
    (place / "b.png").unlink()
    found = zip_file(str(zipped(place, tmp_path / "a.zip"))).train
    (tmp_path / "a.zip").unlink()
    with pytest.raises(UsageError, match=r"a\.zip cannot be read"):
        found.stamp()


def test_stamps_tell_changes(tmp_path):
    place = write(tmp_path / "set", random_images(2))
    zipped(place, tmp_path / "a.zip")
    stamps = [folder(str(place)).train.stamp(), zip_file(str(tmp_path / "a.zip")).train.stamp()]
    assert stamps == [folder(str(place)).train.stamp(), zip_file(str(tmp_path / "a.zip")).train.stamp()]
    write(place, random_images(1, 9))
    zipped(place, tmp_path / "a.zip")
    changed = [folder(str(place)).train.stamp(), zip_file(str(tmp_path / "a.zip")).train.stamp()]
    assert all(old != new for old, new in zip(stamps, changed))


def test_names_of_windows_in_a_zip_file_are_folders(tmp_path):
    """As some programs there write them, against the format's rules."""
    write(tmp_path / "set", random_images(4), ["train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png"])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for source in (tmp_path / "set").rglob("*.png"):
            info = zipfile.ZipInfo("x")
            info.filename = str(source.relative_to(tmp_path)).replace("/", "\\")
            file.writestr(info, source.read_bytes())
    found = zip_file(str(tmp_path / "a.zip"))
    assert (len(found.train), len(found.held_out), found.classes) == (2, 2, ("a", "b"))
    assert found.train.read(0) == (tmp_path / "set" / "train" / "a" / "0.png").read_bytes()
