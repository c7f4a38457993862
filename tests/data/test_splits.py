"""Which names are splits: of folders and arrays alike, and only where a training and a held-out name both stand."""

import numpy as np
import pytest

from score_sde.data.account import Account
from score_sde.data.arrays import array_file
from score_sde.data.folder import folder
from score_sde.data.splits import HELD_OUT, Split, role, split
from score_sde.errors import UsageError
from tests.data.making import random_images, write

ROLES = {
    "train": "train training Train TRAINING tr train_images train-data trainset Train_Set x_train train2017",
    "test": "test testing Testing TestSet test-images test_set_images testdata X_test test_64x64",
    "val": "val Val val_images val2017",
    "validation": "validation ValidationSet",
    "valid": "valid valid_64x64",
    "dev": "dev DEV dev-set",
    "eval": "eval eval_data",
    "holdout": "holdout hold_out held-out HeldOut",
    None: "trains tram trained attest latest testimony valley values devil data images set x y_train train_labels",
}


def test_names():
    for expected, names in ROLES.items():
        assert {name: role(name) for name in names.split()} == dict.fromkeys(names.split(), expected)
    assert set(ROLES) == {"train", *HELD_OUT, None}


def test_a_split_has_both():
    assert split(["val"], "x") is split(["train", "cat"], "x") is split(["Testing", "val"], "x") is None
    assert split(["Training", "cat", "Testing"], "x") == Split("Training", "Testing", ())
    assert split(["tr", "dev", "Valid", "val", "test_set"], "x") == Split("tr", "test_set", ("Valid", "dev", "val"))
    assert split(["train", "eval", "holdout"], "x") == Split("train", "eval", ("holdout",))


def test_the_same_twice():
    with pytest.raises(UsageError, match=r"x has Training and train, which say the same: keep one of them there"):
        split(["train", "Training", "test"], "x")
    with pytest.raises(UsageError, match="x has test and testing, which say the same"):
        split(["train", "testing", "test"], "x")
    assert split(["train", "test", "val", "Val"], "x") == Split("train", "test", ("Val", "val"))


@pytest.mark.parametrize(
    ("train", "held_out"), [("Training", "Testing"), ("train_images", "val_images"), ("tr", "DEV")]
)
def test_folders(tmp_path, train, held_out):
    names = [f"{train}/cat/0.png", f"{train}/dog/1.png", f"{held_out}/cat/2.png"]
    found = folder(str(write(tmp_path, random_images(3), names)))
    assert (len(found.train), len(found.held_out), found.classes) == (2, 1, ("cat", "dog"))
    assert (found.labels.tolist(), found.held_out_labels.tolist()) == ([0, 1], [0])
    assert found.account == Account(held_out)


def test_a_lone_class_called_val_stays_one(tmp_path):
    found = folder(str(write(tmp_path, random_images(2), ["val/0.png", "cat/1.png"])))
    assert (len(found.train), len(found.held_out), found.classes) == (2, 0, ("cat", "val"))


@pytest.mark.parametrize("names", [
    ("x_train", "x_test", "y_train", "y_test"),  # Keras' mnist.npz
    ("train_images", "test_images", "train_labels", "test_labels"),  # MedMNIST
    ("X_train", "X_val", "label", "val_label"),
    ("train", "test", "labels", "test_labels"),
    ("images", "test", "label", "test_label"),
    ("train_x", "valid_x", "train_y", "valid_y"),
])  # fmt: skip
def test_arrays_and_their_labels(tmp_path, names):
    x, y = random_images(6), np.arange(6)[:, None]
    np.savez(tmp_path / "a.npz", **dict(zip(names, (x[:4], x[4:], y[:4], y[4:]))))
    found = array_file(str(tmp_path / "a.npz"), ("label",))
    np.testing.assert_array_equal(found.train, x[:4])
    np.testing.assert_array_equal(found.held_out, x[4:])
    np.testing.assert_array_equal(found.condition["label"], [0, 1, 2, 3])
    np.testing.assert_array_equal(found.held_out_condition["label"], [4, 5])
    assert found.account == Account(names[1])


def test_arrays_passed_over(tmp_path):
    x = random_images(6)
    np.savez(tmp_path / "a.npz", train_images=x, val_images=x[:2], test_images=x[:1], images=x[:3], mean=x.mean(0))
    found = array_file(str(tmp_path / "a.npz"))
    assert (len(found.train), len(found.held_out)) == (6, 1)
    assert found.account == Account("test_images", {"in val_images": 2, "in images": 3})


def test_what_conditions_is_no_split(tmp_path):
    x = random_images(4)
    np.savez(tmp_path / "a.npz", train=x, test=x[:2], x=x, test_x=x[:2])
    found = array_file(str(tmp_path / "a.npz"), ("x",))
    np.testing.assert_array_equal(found.held_out_condition["x"], x[:2])
    assert found.account == Account("test")
