"""The embedded digits, which are fixed to the bit, and arrays from files."""

import hashlib

import numpy as np
import pytest

from score_sde.data.arrays import array_file
from score_sde.data.sources import chosen, digits
from score_sde.errors import UsageError


def rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def test_digits_are_fixed():
    images = digits()
    assert images.train.shape == (1500, 8, 8, 1)
    assert images.held_out.shape == (297, 8, 8, 1)
    assert images.train.dtype == images.held_out.dtype == np.uint8
    assert [hashlib.sha256(part.tobytes()).hexdigest() for part in images[:2]] == [
        "5519180adb089858f91a3555ab851188faefe15fdcdc867ca40ec881e62ffe32",
        "17ba8f91a92f083deb0a906ab942657ef5b3d794e8131f401ed0071638db9141",
    ]


def test_digits_are_disjoint():
    """No two of the 1,797 are equal, so none is in both parts."""
    assert len(np.unique(rows(np.concatenate(digits()[:2])), axis=0)) == 1797


def test_digits_have_17_grey_levels():
    np.testing.assert_array_equal(np.unique(np.concatenate(digits()[:2])), [round(255 * k / 16) for k in range(17)])


def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    counts = datasets.load_digits().images.reshape(1797, 64)
    theirs = np.array([[round(255 * k / 16) for k in image] for image in counts.astype(int).tolist()])
    ours = rows(np.concatenate(digits()[:2]))
    np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))


def test_a_choice_is_fixed_and_not_the_first():
    """Of few all; of many always the same, in order, from all over the set."""
    assert chosen(5, 5).tolist() == chosen(5, 9).tolist() == [0, 1, 2, 3, 4]
    found = chosen(10_000, 100)
    np.testing.assert_array_equal(found, np.sort(np.random.RandomState(0).permutation(10_000)[:100]))
    assert len(np.unique(found)) == 100
    assert abs(found.mean() / 10_000 - 0.5) < 4 * 12**-0.5 / 10


@pytest.fixture
def some():
    return np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)


def test_npy(tmp_path, some):
    np.save(tmp_path / "a.npy", some)
    images = array_file(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(images.train, some)
    assert isinstance(images.train, np.memmap)
    assert images.held_out.shape == (0, 4, 6, 3)
    assert images.held_out.dtype == np.uint8


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["train", "images"])
def test_npz(tmp_path, some, save, name):
    save(tmp_path / "a.npz", **{name: some, "labels": np.arange(5)})
    images = array_file(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(images.train, some)
    assert images.held_out.shape == (0, 4, 6, 3)
    save(tmp_path / "b.npz", **{name: some, "test": some[:2] + 1})
    images = array_file(str(tmp_path / "b.npz"))
    np.testing.assert_array_equal(images.train, some)
    np.testing.assert_array_equal(images.held_out, some[:2] + 1)


def test_train_goes_before_images(tmp_path, some):
    np.savez(tmp_path / "a.npz", images=some, train=some[:1])
    assert len(array_file(str(tmp_path / "a.npz")).train) == 1


@pytest.mark.parametrize(
    "arrays, message",
    [
        (np.zeros(3, np.uint8), r"has rank 1 \(shape \(3,\)\): the first axis counts examples"),
        (np.zeros((), np.uint8), "has rank 0"),
        (np.zeros((3, 8, 8, 1), np.float64), "has dtype float64: save pictures as uint8"),
        (np.zeros((3, 8, 8, 1), np.int8), "has dtype int8: save pictures as uint8"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"holds no example \(shape \(0, 8, 8, 1\)\)"),
        (np.array([None]), r"a\.npy holds Python objects and no numbers: np\.save\('images\.npy', "),
        ({"train": np.array([None])}, r"a\.npz:train holds Python objects and no numbers: np\.save"),
        ({"faces": np.zeros(1)}, r"holds \['faces'\]: name its image array"),
        ({"train": np.zeros(3, np.uint8)}, r"a\.npz:train has rank 1"),
        ({"images": np.zeros((3, 8, 8, 1))}, r"a\.npz:images has dtype float64"),
        (
            {"images": np.zeros((3, 8, 8, 1), np.uint8), "test": np.zeros((3, 8, 8, 1))},
            r"a\.npz:test has dtype float64",
        ),
        (
            {"images": np.zeros((3, 8, 8, 1), np.uint8), "test": np.zeros((3, 9, 9, 1), np.uint8)},
            r"a\.npz:test has shape \(3, 9, 9, 1\) and dtype uint8 but the training data \(3, 8, 8, 1\) and uint8",
        ),
    ],
)
def test_wrong_arrays(tmp_path, arrays, message):
    path = tmp_path / ("a.npz" if isinstance(arrays, dict) else "a.npy")
    np.savez(path, **arrays) if isinstance(arrays, dict) else np.save(path, arrays)
    with pytest.raises(UsageError, match=message):
        array_file(str(path))


def test_broken_files(tmp_path, some):
    with pytest.raises(UsageError, match=r"nowhere\.npy is not a file"):
        array_file(str(tmp_path / "nowhere.npy"))
    with pytest.raises(UsageError, match="is not a file"):
        array_file(str(tmp_path))
    np.save(tmp_path / "whole.npy", some)
    np.savez_compressed(tmp_path / "whole.npz", images=some)
    whole = (tmp_path / "whole.npz").read_bytes()
    for name, content in {
        "short.npy": (tmp_path / "whole.npy").read_bytes()[:-1],
        "no header.npy": (tmp_path / "whole.npy").read_bytes()[:9],
        "short.npz": whole[:-30],
        "damaged.npz": whole[:100] + bytes(20) + whole[120:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=f"{name} cannot be read .*: write it with np.save"):
            array_file(str(tmp_path / name))


def test_an_array_files_own_sentence_is_not_another_ones(tmp_path):
    """Whatever its name; and the remedy for a name keeps the labels."""
    (tmp_path / "pickles").mkdir()
    place = tmp_path / "pickles" / "a.npz"
    np.savez(place, data=np.zeros((4, 8, 8, 1), np.uint8), labels=np.arange(4))
    with pytest.raises(UsageError, match=r"holds \['data', 'labels'\]: name its image array") as error:
        array_file(str(place))
    assert "cannot be read" not in str(error.value)
    command = str(error.value).split('"')[1].replace("named.npz", str(tmp_path / "named.npz"))
    exec(command)
    found = array_file(str(tmp_path / "named.npz"), ("label",))
    assert found.condition["label"].tolist() == [0, 1, 2, 3]
    np.save(tmp_path / "b.npy", np.zeros((4, 8, 8, 1), np.float64))
    with pytest.raises(UsageError, match=r"^(?!.*cannot be read).*float64"):
        array_file(str(tmp_path / "b.npy"))


def test_arrays_like_the_pictures_are_counted_as_passed_over(tmp_path):
    pictures = np.zeros((6, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "a.npz", train=pictures, test=pictures[:2], extra=pictures[:5], labels=np.arange(6))
    assert array_file(str(tmp_path / "a.npz")).account.passed_over == {"in extra": 5}
