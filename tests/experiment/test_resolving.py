"""Arrays of another shape or order of axes than the config says: the sentence names what works, and it works."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.experiment import build
from tests.data.making import random_images
from tests.tiny import tiny_config

SOME = random_images(4)
FIRST = SOME.transpose(0, 3, 1, 2)


def config(path, **changes):
    data = {
        "data__uniform_dequantization": False,
        "data__name": "array",
        "data__path": str(path),
        "data__num_channels": 3,
        **changes,
    }
    return tiny_config(network__attn_resolutions=(), **data)


def followed(error: pytest.ExceptionInfo, folder) -> dict:
    """Run the command of a sentence; the fields that it names then."""
    for command in re.findall(r"`python (.*?)`, then", str(error.value)):
        subprocess.run([sys.executable, *shlex.split(command)], cwd=folder, check=True)
    found = dict(re.findall(r"--config\.data\.(\w+)=(\S+)", str(error.value)))
    return {"data__path": str(folder / found["path"])}


@pytest.mark.parametrize(("arrays", "expected", "said"), [
    (FIRST, SOME, r"have shape \(3, 8, 8\), channels first: "),
    ({"train": FIRST, "test": FIRST[:2], "labels": np.arange(4)}, SOME, r"have shape \(3, 8, 8\), channels first: "),
    (FIRST.reshape(4, -1), SOME, r"have shape \(192,\), as rows of 3x8x8 have: "),
    ({"x_train": FIRST.reshape(4, -1)}, SOME, r"have shape \(192,\), as rows of 3x8x8 have: "),
    (SOME.transpose(1, 2, 3, 0)[..., :2], SOME[:2], r"have shape \(8, 3, 2\), examples last: "),
    (FIRST.astype(np.float32), SOME.astype(np.float32), r"have shape \(3, 8, 8\), channels first: "),
])  # fmt: skip
@pytest.mark.parametrize("name", ["array", "cifar10"])
def test_axes_in_another_order(tmp_path, arrays, expected, said, name):
    path = tmp_path / ("a.npz" if isinstance(arrays, dict) else "a.npy")
    np.savez(path, **arrays) if isinstance(arrays, dict) else np.save(path, arrays)
    if name == "cifar10" and expected.dtype != np.uint8:
        return
    with pytest.raises(UsageError, match=said) as error:
        _ = build(config(path, data__name=name)).data
    found = build(config(path, **followed(error, tmp_path))).data
    np.testing.assert_array_equal(found.train, expected)


def test_numbers_that_are_meant_so(tmp_path):
    np.save(tmp_path / "a.npy", random_images(4).transpose(0, 3, 1, 2).repeat(2, 1)[:, :4].astype(np.float32))
    with pytest.raises(UsageError, match=r"channels first: .* \(if it is meant so, data\.shape=\(4, 8, 8\)\)"):
        build(config(tmp_path / "a.npy"))
    assert build(config(tmp_path / "a.npy", data__shape=(4, 8, 8))).shape == (4, 8, 8)
    np.save(tmp_path / "b.npy", np.random.default_rng(0).normal(size=(6, 4, 8, 2)).astype(np.float32))
    assert build(config(tmp_path / "b.npy")).shape == (4, 8, 2)


@pytest.mark.parametrize(("shape", "fields"), [
    ((16, 16, 3), {"image_size": 16}),
    ((16, 32, 3), {"height": 16, "width": 32}),
    ((16, 8, 1), {"height": 16, "width": 8, "num_channels": 1}),
    ((8, 8, 1), {"num_channels": 1}),
])  # fmt: skip
def test_fields_that_fit_the_pictures(tmp_path, shape, fields):
    np.save(tmp_path / "a.npy", np.zeros((4, *shape), np.uint8))
    wanted = " and ".join(f"data.{name}={value}" for name, value in fields.items())
    message = (
        rf"the images have shape {re.escape(str(shape))} but the config says \(8, 8, 3\): set {re.escape(wanted)}$"
    )
    for name in ("array", "cifar10"):
        with pytest.raises(UsageError, match=message):
            _ = build(config(tmp_path / "a.npy", data__name=name)).data
        right = config(
            tmp_path / "a.npy", data__name=name, **{f"data__{name}": value for name, value in fields.items()}
        )
        assert build(right).data.train.shape == (4, *shape)


def test_sides_of_their_own_are_named_again(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(UsageError, match=r"set data\.height=16 and data\.width=16$"):
        build(config(tmp_path / "a.npy", data__width=32))


def test_grey_pictures_where_a_published_set_is_asked_for(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(UsageError, match=r"shape \(8, 8\) but the config says \(8, 8, 1\): set data\.name='array'"):
        _ = build(config(tmp_path / "a.npy", data__name="cifar10", data__num_channels=1)).data
    assert build(config(tmp_path / "a.npy", data__num_channels=1)).shape == (8, 8, 1)
