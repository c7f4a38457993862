"""Folders of .npy files: examples, several examples a file, splits, and what is refused."""

import pickle

import numpy as np
import pytest

from score_sde.data.array_folder import array_folder
from score_sde.data.sources import gather
from score_sde.errors import UsageError
from score_sde.experiment import build
from tests.tiny import tiny_config


def write(root, **arrays):
    for name, array in arrays.items():
        place = root / f"{name.replace('__', '/')}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, array)
    return str(root)


def fields(count, shape=(4, 6), seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def test_each_file_is_an_example(tmp_path):
    x = fields(5)
    (tmp_path / "notes.txt").write_text("")
    found = array_folder(write(tmp_path, **{f"f{i}": one for i, one in enumerate(x)}))
    assert found is not None and found.train.shape == (5, 4, 6) and len(found.held_out) == 0
    assert found.account.passed_over == {".txt": 1}
    np.testing.assert_array_equal(gather(found.train, np.array([3, 0, 3])), x[[3, 0, 3]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found.train))[np.arange(5)], x)


def test_files_of_several(tmp_path):
    x = fields(9)
    path = write(tmp_path, a=x[:2], b=x[2:7], c=x[7:])
    found = array_folder(path)
    assert found is not None and found.train.shape == (9, 4, 6)
    np.testing.assert_array_equal(gather(found.train, np.array([8, 2, 6, 0, 1, 7])), x[[8, 2, 6, 0, 1, 7]])


def test_the_shape_says_that_a_file_has_several(tmp_path):
    x = fields(4)
    path = write(tmp_path, a=x[:2], b=x[2:])
    alone, several = array_folder(path), array_folder(path, (4, 6))
    assert alone is not None and alone.train.shape == (2, 2, 4, 6)
    assert several is not None and several.train.shape == (4, 4, 6)


def test_splits_and_a_run(tmp_path):
    x = fields(20)
    names = {f"{'train' if i < 16 else 'test'}__f{i:02}": one for i, one in enumerate(x)}
    config = tiny_config(
        data__name="array", data__path=write(tmp_path, **names), data__random_flip=False,
        data__uniform_dequantization=False, network__attn_resolutions=(),
    )  # fmt: skip
    experiment = build(config)
    assert len(experiment.data.held_out) == 4 and experiment.spec.shape == (4, 6) and experiment.spec.kind == "real"
    np.testing.assert_allclose(experiment.spec.mean, [x[:16].mean()], atol=1e-6)
    batch = experiment.stream.batches(0, 16, 1).x[0]
    assert {one.tobytes() for one in batch} <= {one.tobytes() for one in x[:16]}
    assert experiment.content["train"]["count"] == 16


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": fields(4)[0], "b": fields(4)[0], "c": fields(4, (3, 6))[0, :2, :5]}, r"c\.npy has shape"),
        ({"a": fields(4)[0], "b": fields(4)[0].astype(np.float64)}, "dtype"),
        ({"a": fields(4)[0].astype(np.float64)}, "float64"),
    ],
)
def test_refused(tmp_path, arrays, message):
    with pytest.raises(UsageError, match=message):
        array_folder(write(tmp_path, **arrays))


def test_no_conditions_of_a_folder(tmp_path):
    with pytest.raises(UsageError, match="into one"):
        array_folder(write(tmp_path, a=fields(1)[0]), (), ("label",))


def test_no_array_is_no_folder_of_arrays(tmp_path):
    assert array_folder(str(tmp_path)) is None


def test_a_file_that_changed_is_named(tmp_path):
    found = array_folder(write(tmp_path, a=fields(1)[0], b=fields(1)[0]))
    assert found is not None
    write(tmp_path, b=fields(1, (4, 4))[0])
    with pytest.raises(UsageError, match=r"b\.npy has shape"):
        gather(found.train, np.array([1]))
