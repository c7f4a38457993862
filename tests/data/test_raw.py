"""Pictures as they are stored: of folders, zip files, arrays and what --mode sample writes."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from score_sde.data.raw import pictures_at
from score_sde.errors import UsageError
from tests.data.making import random_images

SOME = random_images(5, 6)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_encoded_pictures(tmp_path, kind):
    """Every one, in whatever folder, decoded as Pillow does: no split, no crop, transparent colours kept."""
    for i, image in enumerate(SOME[:3]):
        place = tmp_path / "in" / ("train" if i else "test") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, :3]).save(place)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in (tmp_path / "in").rglob("*.png"):
                archive.write(file, file.relative_to(tmp_path / "in"))
    found, finite = pictures_at(str(tmp_path / ("a.zip" if kind == "zip" else "in")))
    assert len(found) == 3 and finite.all()
    np.testing.assert_array_equal(found[0:3], SOME[:3])
    np.testing.assert_array_equal(found[2:9], SOME[2:3])


def test_sizes_and_modes_differ(tmp_path):
    Image.fromarray(SOME[0]).save(tmp_path / "0.png")
    Image.fromarray(SOME[1][:4]).save(tmp_path / "1.png")
    transparent = np.concatenate([SOME[2], np.zeros((6, 6, 1), np.uint8)], axis=-1)
    Image.fromarray(transparent).save(tmp_path / "2.png")
    Image.fromarray(SOME[3][..., 0]).save(tmp_path / "3.png")
    found, _ = pictures_at(str(tmp_path))
    several = found[0:3]
    assert isinstance(several, list) and [x.shape for x in several] == [(6, 6, 3), (4, 6, 3), (6, 6, 3)]
    np.testing.assert_array_equal(found[2:3], SOME[2:3])
    np.testing.assert_array_equal(found[3:4], np.repeat(SOME[3:4, ..., :1], 3, axis=-1))


def test_grey_pictures_have_one_channel_where_all_are_grey(tmp_path):
    """And in a zip file pictures come before arrays; what has transparency is counted."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, image in enumerate(SOME):
            Image.fromarray(image[..., 0]).save(tmp_path / f"{i}.png")
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
        np.save(tmp_path / "boxes.npy", np.ones((2, 4)))
        archive.write(tmp_path / "boxes.npy", "boxes.npy")
    found, _ = pictures_at(str(tmp_path / "a.zip"))
    np.testing.assert_array_equal(found[0:5], SOME[..., :1])
    assert found.shapes == {(6, 6, 1)} and found.transparent == 0
    Image.fromarray(np.zeros((6, 6, 4), np.uint8)).save(tmp_path / "9.png")
    found, _ = pictures_at(str(tmp_path))
    assert found[0:6][0].shape == (6, 6, 3) and found.transparent == 1


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", SOME)
    np.savez(tmp_path / "b.npz", samples=SOME, finite=np.arange(5) > 0, evaluations=np.ones(5))
    np.savez(tmp_path / "c.npz", whatever=SOME[..., 0])
    for name, expected in (("a.npy", SOME), ("b.npz", SOME), ("c.npz", SOME[..., :1])):
        found, finite = pictures_at(str(tmp_path / name))
        np.testing.assert_array_equal(found[0:5], expected)
        assert finite.sum() == (4 if name == "b.npz" else 5)
    (tmp_path / "run").mkdir()
    (tmp_path / "b.npz").rename(tmp_path / "run" / "samples.npz")
    assert len(pictures_at(str(tmp_path / "run"))[0]) == 5


BAD = {
    "missing": "does not exist: name a folder",
    "empty": "no picture",
    "text": "cannot be read as pictures .*: name a folder or a zip file of pictures",
    "two": r"holds \['p', 'q'\]: call the pictures samples or images",
    "none": r"holds uint8 \(0, 2, 2, 1\), which is no array of pictures",
    "vector": r"holds float64 \(3,\), which is no array of pictures",
    "finite": "says of 3 samples whether they are finite, and holds 5",
    "deep": "0.png has more than 8 bits .Pillow's mode I;16.",
    "unpacked": "^[^=]*holds no picture.*|.*no picture",
}


@pytest.mark.parametrize("name", BAD)
def test_what_holds_no_pictures(tmp_path, name):
    place = tmp_path / name
    if name == "empty":
        place.mkdir()
    elif name == "text":
        place.write_text("pictures")
    elif name == "two":
        place = place.with_suffix(".npz")
        np.savez(place, p=SOME, q=SOME)
    elif name == "finite":
        place = place.with_suffix(".npz")
        np.savez(place, samples=SOME, finite=np.ones(3, bool))
    elif name == "deep":
        place.mkdir()
        Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6)).save(place / "0.png")
    elif name == "unpacked":
        place = place.with_suffix(".zip")
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("a.txt", "text")
    elif name != "missing":
        place = place.with_suffix(".npy")
        np.save(place, np.zeros((0, 2, 2, 1), np.uint8) if name == "none" else np.zeros(3))
    with pytest.raises(UsageError, match=BAD[name]):
        pictures_at(str(place))
