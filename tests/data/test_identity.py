"""Data are known by what they are, wherever they lie, and others are told apart."""

import json
import shutil

import numpy as np
import pytest

from score_sde.data import identity
from score_sde.data.arrays import array_file
from score_sde.data.identity import difference, digest
from score_sde.data.sources import Dataset, hold_out, labelled
from score_sde.experiment import load_data
from tests.data.making import random_images, write, zipped
from tests.tiny import tiny_config

SOME = random_images(12, channels=1)
LABELS = np.arange(12, dtype=np.int32) % 3


def folder_of(place, cache_limit=8.0, **fields):
    section = {"name": "folder", "path": str(place), "cache": str(place.parent / "cache"), "cache_limit": cache_limit}
    return load_data(tiny_config(**{f"data__{n}": v for n, v in (section | fields).items()}))


def said(before: Dataset | dict, now: Dataset, conditions=()) -> str | None:
    known = before if isinstance(before, dict) else digest(before)
    return difference(json.loads(json.dumps(known)), digest(now), conditions)


def test_the_same_pictures_are_the_same_in_whatever_they_lie(tmp_path):
    """In a folder, kept decoded or not, moved, in a zip file, in an array, and after holding some out."""
    place = write(tmp_path / "set", SOME)
    np.save(tmp_path / "x.npy", SOME)
    moved = shutil.copytree(place, tmp_path / "elsewhere" / "set")
    known = [
        folder_of(place),
        folder_of(moved),
        folder_of(zipped(place, tmp_path / "set.zip")),
        array_file(str(tmp_path / "x.npy")),
        Dataset(SOME, SOME[:0]),
    ]
    on_the_way = [folder_of(place, 0.0), folder_of(moved, 0.0)]
    for data in [*known, *on_the_way]:
        assert said(known[0], data) is None and said(data, known[0]) is None
        assert said(hold_out(known[0], 3), hold_out(data, 3)) is None
    assert said(*on_the_way) is None


@pytest.mark.parametrize("limit", [8.0, 0.0], ids=["kept", "on the way"])
def test_other_pictures_are_told_apart(limit, tmp_path):
    place = write(tmp_path / "set", SOME)
    before = digest(folder_of(place, limit))
    write(place, SOME[:1] ^ 1, ["00007.png"])
    assert said(before, folder_of(place, limit)) == "the training examples have other values"
    write(place, SOME[:1], ["more.png"])
    assert said(before, folder_of(place, limit)) == "there are 13 training examples where there were 12"


def test_every_part_is_compared():
    before = labelled(SOME, SOME[:4], LABELS, LABELS[:4])
    words = {
        "there are 11 training examples where there were 12": before._replace(train=SOME[1:]),
        "there are 0 held-out examples where there were 4": before._replace(held_out=SOME[:0]),
        "the held-out examples have other values": before._replace(held_out=SOME[1:5]),
        "the training examples have shape (4, 16, 1) where they had (8, 8, 1)": before._replace(
            train=SOME.reshape(12, 4, 16, 1)
        ),
        "the training examples have dtype int32 where they had uint8": before._replace(train=SOME.astype(np.int32)),
        "the training examples' labels have other values": before._replace(condition={"label": LABELS[::-1]}),
        "the training examples have other values": before._replace(train=SOME[::-1]),
    }
    for sentence, now in words.items():
        assert said(before, now, ("label",)) == sentence
    assert said(before, before._replace(condition={"label": LABELS[::-1]})) is None  # of no matter to this run
    assert said(before, before, ("label",)) is None


def test_of_large_arrays_a_fixed_choice_is_looked_at(monkeypatch):
    monkeypatch.setattr(identity, "LARGEST", 100)
    monkeypatch.setattr(identity, "EXAMPLES", 5)
    facts = digest(Dataset(SOME, SOME[:0]))["train"]
    assert facts["of"] == 5 and "crc32" not in facts
    assert said(Dataset(SOME, SOME[:0]), Dataset(SOME ^ 1, SOME[:0])) == "the training examples have other values"


def test_of_decoded_pictures_the_checksum_is_read_and_not_taken_again(tmp_path, monkeypatch):
    data = folder_of(write(tmp_path / "set", SOME))
    expected = digest(Dataset(SOME, SOME[:0]))["train"]["crc32"]
    monkeypatch.setattr(identity, "LARGEST", 0)
    assert digest(data)["train"]["crc32"] == expected


def test_pictures_of_more_bits_are_known_too(tmp_path):
    np.save(tmp_path / "x.npy", SOME.astype(np.uint16) * 16)
    load = lambda: load_data(tiny_config(data__name="array", data__path=str(tmp_path / "x.npy")))
    before = digest(load())
    assert said(before, load()) is None and "crc32" in before["train"]
    np.save(tmp_path / "x.npy", SOME.astype(np.uint16) * 16 ^ 1)
    assert said(before, load()) == "the training examples have other values"
