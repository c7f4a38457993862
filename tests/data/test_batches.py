"""CIFAR's python batches and downsampled ImageNet, as they are downloaded."""

import pickle
import pickletools

import numpy as np
import pytest

from score_sde.data import cifar, imagenet
from score_sde.data.account import Account
from score_sde.data.cache import Cache
from score_sde.data.resolve import array
from score_sde.data.telling import lines
from score_sde.errors import UsageError
from tests.data.making import random_images

SOME = random_images(6, 4)


def rows(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def batch(images: np.ndarray, labels: list, key: bytes = b"labels") -> bytes:
    return pickle.dumps({b"data": rows(images), key: labels, b"filenames": [b"a.png"] * len(images)}, protocol=2)


def of_python_2(images: np.ndarray, labels: list[int]) -> bytes:
    """As cPickle wrote them: byte strings in the place of text."""
    data = rows(images)
    raw = lambda text: b"U" + bytes([len(text)]) + text
    number = lambda n: b"J" + n.to_bytes(4, "little", signed=True)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01("
        + number(data.shape[0]) + number(data.shape[1]) + b"t" + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
        + number(-1) + number(-1) + b"K\x00tb\x89T" + data.size.to_bytes(4, "little") + data.tobytes() + b"tb"
    )  # fmt: skip
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + raw(b"labels") + listed + raw(b"data") + array + b"u."


@pytest.fixture
def cifar10(tmp_path):
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for k in range(5):
        (place / f"data_batch_{k + 1}").write_bytes(of_python_2(SOME[k : k + 1], [k]))
    (place / "test_batch").write_bytes(batch(SOME[5:], [9]))
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}, protocol=2))
    (place / "readme.html").write_text("<html>")
    return place


def test_cifar_10(cifar10):
    for place in (cifar10, cifar10.parent):
        found = array(str(place), ("label",), Cache())
        np.testing.assert_array_equal(found.train, SOME[:5])
        np.testing.assert_array_equal(found.held_out, SOME[5:])
        assert (found.condition["label"].tolist(), found.held_out_condition["label"].tolist()) == ([0, 1, 2, 3, 4], [9])
        assert found.classes[9] == "class 9" and len(found.classes) == 10
        assert found.account == Account("test_batch")
    one = array(str(cifar10 / "data_batch_3"), (), Cache())
    np.testing.assert_array_equal(one.train, SOME[2:3])
    assert one.condition["label"].tolist() == [2]


def test_cifar_10_that_lacks_batches_is_told_of(cifar10):
    (cifar10 / "data_batch_2").unlink()
    found = array(str(cifar10), (), Cache())
    assert len(found.train) == 4
    assert lines(found)[1:] == [f"data: warning: {cifar10} holds 4 of CIFAR-10's 5 batches to train on"]


def test_imagenet_that_lacks_batches_is_told_of(small_imagenet):
    found = array(str(small_imagenet), (), Cache())
    assert lines(found)[1:] == [f"data: warning: {small_imagenet} holds 3 of ImageNet's 10 batches to train on"]


def test_cifar_100(tmp_path):
    for name, part, labels in (("train", SOME[:4], [3, 1, 99, 0]), ("test", SOME[4:], [5, 6])):
        (tmp_path / name).write_bytes(batch(part, labels, b"fine_labels"))
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}, protocol=2))
    found = array(str(tmp_path), ("label",), Cache())
    np.testing.assert_array_equal(found.held_out, SOME[4:])
    assert found.condition["label"].tolist() == [3, 1, 99, 0] and len(found.classes) == 100


class Harmful:
    def __reduce__(self):
        return (open, ("harmed", "w"))


@pytest.mark.parametrize("content", [Harmful(), {b"data": Harmful()}, [1, 2], {b"data": np.zeros((2, 48))}, {1: 3}])
def test_another_pickle_is_named_and_never_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=r"a\.pkl is a pickle, which could run any program: np\.save\('images\.npy'"):
        array(str(tmp_path / "a.pkl"), (), Cache())
    assert not (tmp_path / "harmed").exists()


def test_damaged_batches(cifar10):
    whole = (cifar10 / "data_batch_2").read_bytes()
    changed = whole.replace(b"u1", b"f8"), whole.replace(b"ndarray", b"memmap"), whole.replace(b"K0", b"K1")
    for content in (whole[:-40], b"\x80\x02nothing", *(new for new in changed if new != whole)):
        (cifar10 / "data_batch_2").write_bytes(content)
        with pytest.raises(UsageError, match=r"data_batch_2 cannot be read \(.+\): download the set anew"):
            array(str(cifar10), (), Cache())


def test_labels_that_are_none(cifar10, capsys):
    (cifar10 / "data_batch_2").write_bytes(batch(SOME[1:2], ["cat"]))
    assert array(str(cifar10), (), Cache()).condition == {}
    assert "no labels are taken" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"no labels that are integers from 0 on, one for each of the 5 pictures"):
        array(str(cifar10), ("label",), Cache())


def test_the_goldens_of_python_2_are_what_they_should_be():
    codes = [code.name for code, _, _ in pickletools.genops(of_python_2(SOME[:1], [1]))]
    assert {"SHORT_BINSTRING", "BINSTRING", "GLOBAL", "REDUCE", "BUILD"} <= set(codes)
    assert pickle.loads(of_python_2(SOME, [1]), encoding="bytes")[b"data"].tobytes() == rows(SOME).tobytes()


@pytest.fixture
def small_imagenet(tmp_path):
    for k in (10, 1, 2):
        part = SOME[:3] if k == 1 else SOME[3:5] if k == 2 else SOME[5:]
        np.savez(
            tmp_path / f"train_data_batch_{k}.npz", data=rows(part), labels=np.arange(len(part)) + k, mean=rows(part)[0]
        )
    (tmp_path / "val").mkdir()
    np.savez(tmp_path / "val" / "val_data.npz", data=rows(SOME[:2]), labels=[1000, 1])
    return tmp_path


@pytest.mark.parametrize("limit", [8.0, 0.0])
def test_downsampled_imagenet(small_imagenet, tmp_path, limit):
    """Files in the order of their numbers, labels from 0, mapped where the cache may keep them."""
    found = array(str(small_imagenet), ("label",), Cache(str(tmp_path / "cache"), limit))
    np.testing.assert_array_equal(found.train, SOME)
    np.testing.assert_array_equal(found.held_out, SOME[:2])
    assert found.condition["label"].tolist() == [0, 1, 2, 1, 2, 9]
    assert found.held_out_condition["label"].tolist() == [999, 0]
    assert isinstance(found.train, np.memmap) == (limit > 0)
    lacking = f"data: warning: {small_imagenet} holds 3 of ImageNet's 10 batches to train on"
    assert found.account == Account("val_data.npz", notes=(lacking,))
    one = array(str(small_imagenet / "train_data_batch_2.npz"), (), Cache(str(tmp_path / "cache"), limit))
    np.testing.assert_array_equal(one.train, SOME[3:5])


def test_imagenet_that_is_damaged_or_of_two_sizes(small_imagenet, tmp_path):
    np.savez(small_imagenet / "train_data_batch_2.npz", data=rows(random_images(2, 8)), labels=[1, 2])
    with pytest.raises(UsageError, match="holds pictures of several sizes: name one of its folders"):
        array(str(small_imagenet), (), Cache(str(tmp_path / "cache")))
    (small_imagenet / "train_data_batch_2.npz").write_bytes(b"PK nothing")
    with pytest.raises(
        UsageError, match=r"train_data_batch_2\.npz is damaged or no batch of ImageNet: download it anew"
    ):
        array(str(small_imagenet), (), Cache(str(tmp_path / "cache")))
    assert cifar.read("x", small_imagenet) is None
    assert imagenet.read("x", tmp_path / "val", Cache()) is None
