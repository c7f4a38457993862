"""Point sets as data: their scale, what is refused, .xyz files, and what neither turn nor order changes."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.kinds import Points
from score_sde.data.points import PointSpec, described, invariants
from score_sde.data.sources import hold_out
from score_sde.data.spec import Missing, Spec
from score_sde.data.xyz import frames, text, xyz
from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from tests.golden_files import relative_error

NAN = np.nan
R = np.random.default_rng(0)
SETS = (5 + R.normal(size=(30, 4, 3)) * np.array([2.0, 2.0, 0.5])).astype(np.float32)
SETS[::3, 1] = NAN
"""Of two coordinates and a feature; a third of them lacks its second point."""


def test_scale_is_around_the_centres():
    found, mean, std = described([SETS[:11], SETS[11:]], [SETS[:2]], 2)
    centred = SETS[..., :2] - np.nanmean(SETS[..., :2], axis=1, keepdims=True)
    degrees = (np.isfinite(SETS[..., 0]).sum(1) - 1).sum() * 2
    expected = np.sqrt(np.nansum(centred.astype(np.float64) ** 2) / degrees)
    assert relative_error(std, [expected, expected, np.nanstd(SETS[..., 2].astype(np.float64))]) < 1e-6
    assert mean[:2] == (0.0, 0.0) and abs(mean[2] - np.nanmean(SETS[..., 2])) < 1e-5
    assert found == PointSpec(2, (0.0, 0.0, 1 / 3, 2 / 3)) and not found.fixed
    spec = Spec((4, 3), "points", mean, std, missing=Missing(), points=found)
    assert Spec.from_json(spec.to_json()) == spec


def test_one_point_has_no_scale():
    with pytest.raises(UsageError, match="the coordinates around their centre"):
        described([np.ones((4, 1, 2), np.float32)], [], 2)
    with pytest.raises(UsageError, match="number 2 of a point"):
        described([np.concatenate([SETS[1::3, :, :2], np.ones((10, 4, 1), np.float32)], -1)], [], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.__setitem__((1, 0, 2), NAN), "1 points have NaN among their numbers"),
        (lambda x: x.__setitem__((1, 0, 2), np.inf), "1 numbers of the points are infinite"),
        (lambda x: x.__setitem__(1, NAN), "1 examples have no point"),
    ],
)
def test_refused(change, message):
    x = SETS.copy()
    change(x)
    for train, held_out in (([x], []), ([SETS], [x])):
        with pytest.raises(UsageError, match=message):
            described(train, held_out, 2)


def test_there_and_back():
    """The centre is lost, and nothing else; absent points stay so."""
    kind = Points(2, (0.0, 0.0, 5.0), (2.0, 2.0, 0.5))
    x = kind.encode(example_keys(root_key(0), positions(0, 30)), jnp.asarray(SETS))
    assert np.abs(np.nanmean(x[..., :2], axis=1)).max() < 1e-6
    back = np.asarray(kind.decode(x))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(SETS))
    moved = SETS[..., :2] - np.nanmean(SETS[..., :2], axis=1, keepdims=True)
    np.testing.assert_allclose(back, np.concatenate([moved, SETS[..., 2:]], -1), atol=2e-6)
    present = ~np.isnan(SETS)
    n = present[..., 0].sum(1)
    np.testing.assert_allclose(kind.log_volume(jnp.asarray(present)), (2 * (n - 1) - n) * np.log(2), rtol=1e-6)


def test_invariants():
    x = SETS.copy()
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2)))[0].astype(np.float32)
    turned = np.concatenate([x[..., :2] @ q + 3, x[..., 2:]], -1)[:, [2, 0, 3, 1]]
    found = invariants(x, 2)
    assert found.shape == (30, 7) and (found[::3, 3:6] == 0).all() and (np.diff(found[:, :6], axis=1) <= 0).all()
    np.testing.assert_allclose(invariants(turned, 2), found, atol=1e-5)


WATER = "3\nwater\nO 0 0 0\nH 0.96 0 0.0\nH -0.24 0.93 0 9.9 kept\n"
OXYGEN = "2\n\nO 0 0 -0.6\nO 0.0 0.0 6.0D-1\n"


def write(folder, **files):
    for name, content in files.items():
        place = folder / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_suffix(".xyz").write_text(content)
    return folder


def every(source):
    return np.asarray(source[np.arange(len(source))])


def test_files_of_atoms(tmp_path):
    file = write(tmp_path, both=WATER + OXYGEN + "\n") / "both.xyz"
    found = xyz(str(file))
    x = every(found.train)
    assert found.elements == ("O", "H") and found.train.shape == (2, 3, 5) and len(found.held_out) == 0
    np.testing.assert_array_equal(x[0, :, 3:], [[1, 0], [0, 1], [0, 1]])
    np.testing.assert_allclose(x[1, :2, :3], [[0, 0, -0.6], [0, 0, 0.6]], rtol=1e-6)
    assert np.isnan(x[1, 2]).all()
    assert hold_out(found, 1).elements == ("O", "H")
    again = write(tmp_path, again=text(every(found.train), found.elements)) / "again.xyz"
    np.testing.assert_allclose(every(xyz(str(again)).train), x, atol=1e-6)


def test_one_element_has_no_feature(tmp_path):
    found = xyz(str(write(tmp_path, one=OXYGEN)))
    assert found.elements == ("O",) and found.train.shape == (1, 2, 3)
    assert next(frames(write(tmp_path, two=text(every(found.train), ("O",))) / "two.xyz"))[0] == ["O", "O"]


def test_folders_and_their_splits(tmp_path):
    found = xyz(str(write(tmp_path / "a", train__b=WATER, train__a=OXYGEN, test__c=OXYGEN)))
    assert found.train.shape[0] == 2 and found.held_out.shape == (1, 3, 5) and np.isnan(every(found.train)[0, 2]).all()
    assert found.account.held_out_from == "test"
    found = xyz(str(write(tmp_path / "b", a=WATER, b=OXYGEN)))
    assert found.train.shape[0] == 2 and len(found.held_out) == 0


def test_held_out_elements_are_trained_on(tmp_path):
    with pytest.raises(UsageError, match="has the element N in held-out frames alone"):
        xyz(str(write(tmp_path, train=WATER, test=OXYGEN.replace("O 0 0 -0.6", "N 0 0 -0.6"))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("water\n" + WATER, "line 1: 'water' is not the number of a frame's points"),
        (WATER + "0\n\n", "line 6: '0' is not the number"),
        (WATER[:-30], "line 1: the frame has 3 points and the file ends after 2"),
        (WATER.replace("0.96", "near"), "line 4: 'H near 0 0.0' has a coordinate that is no number"),
        (WATER.replace("0.96", "nan"), "line 4: 'H nan 0 0.0' has a coordinate that is not finite"),
        (WATER.replace("O 0 0 0", "O 0 0"), "line 3: 'O 0 0' is no point"),
        ("\n", "holds no frame"),
    ],
)
def test_what_is_no_frame(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        xyz(str(write(tmp_path, bad=content) / "bad.xyz"))


def test_what_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        xyz(str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"holds no \.xyz file"):
        xyz(str(tmp_path))
    (tmp_path / "bytes.xyz").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no text"):
        xyz(str(tmp_path / "bytes.xyz"))
