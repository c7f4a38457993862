"""The account of a run's data: what is said and written, and what headers tell of crops and of further frames."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from score_sde.data.account import Account, Looks
from score_sde.data.folder import folder, zip_file
from score_sde.data.headers import LOOKED, look
from score_sde.data.pictures import Format, Pictures
from score_sde.data.sources import Dataset, Subset, digits, hold_out, labelled
from score_sde.data.telling import fitting, lines, to_json
from score_sde.loop.account import account
from score_sde.storage.workdir import Workdir
from tests.data.making import Shades, random_images, write, zipped
from tests.tiny import tiny_config

NONE = np.zeros((0, 8, 8, 3), np.uint8)


def test_one_line(tmp_path, capsys):
    labels = np.array([0, 1, 3], np.int32)
    held = random_images(2)
    passed = Account("Testing", {".npy": 2, ".heic": 4})
    data = labelled(random_images(3), held, labels, labels[:2], account=passed)
    line = "data: 3 for training, 2 held out (from Testing), 6 passed over (4 .heic, 2 .npy), 3 classes"
    assert lines(data) == [line]
    account(tiny_config(), data, Workdir(tmp_path))
    assert capsys.readouterr().err == f"{line}\n"
    written = json.loads((tmp_path / "data.json").read_text())
    assert written == to_json(data) and list(written.values())[:5] == [3, 2, "Testing", {".npy": 2, ".heic": 4}, 3]
    assert lines(Dataset(Shades(1234), NONE)) == ["data: 1,234 for training, 0 held out, 0 passed over, no classes"]


def test_where_what_is_held_out_comes_from():
    assert lines(digits())[0].startswith("data: 1,500 for training, 297 held out (from a fixed permutation of the dig")
    split = hold_out(Dataset(Shades(8), NONE, account=Account("", {".npy": 2}, ("a note",))), 3)
    line = "data: 5 for training, 3 held out (from a fixed permutation, data.held_out=3), 2 passed over (2 .npy), no cl"
    assert lines(split)[0].startswith(line) and lines(split)[1] == "a note"
    assert isinstance(split.train, Subset)


@pytest.mark.parametrize(("sides", "shape", "lost", "ratio"), [
    ((16, 16), (8, 8), 0.0, (1, 1)),
    ((16, 32), (16, 16), 0.5, (1, 2)),
    ((32, 24), (8, 8), 0.25, (4, 3)),
    ((16, 32), (8, 16), 0.0, (1, 2)),
    ((10, 40), (8, 16), 0.5, (1, 4)),
])  # fmt: skip
def test_how_much_a_crop_loses(tmp_path, sides, shape, lost, ratio):
    """Of a folder, of a zip file of it, and lying on the side by EXIF."""
    place = write(tmp_path / "set", np.zeros((3, *sides, 3), np.uint8))
    form = Format(shape[0], 3, width=shape[1])
    turned = tmp_path / "turned"
    turned.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((*sides[::-1], 3), np.uint8)).save(turned / "a.jpg", exif=exif)
    files = folder(str(place)), zip_file(str(zipped(place, tmp_path / "a.zip"))), folder(str(turned))
    for found, count in zip(files, (3, 3, 1)):
        looks = look(found.train, form)
        assert looks == Looks(count, pytest.approx(lost), ratio, {})
        pixel = Pictures(found.train, form)[np.arange(1)]
        assert pixel.shape == (1, *shape, 3)


def test_the_fields_that_lose_nothing_are_named():
    def said(lost: float, ratio: tuple[int, int], multiple: int = 1) -> list[str]:
        return lines(Dataset(Shades(4), NONE, account=Account(looks=Looks(4, lost, ratio)))._replace(), multiple)[1:]

    assert said(0.0, (1, 1)) == []
    assert said(0.05, (1, 2)) == ["data: the crop to 2x2 (height x width) loses 5.0% of the pixels"]
    (line,) = said(0.5, (1, 2))
    assert line.endswith(
        ": data.height=2 and data.width=4 lose nothing of pictures whose sides are as 1:2, the most common"
    )
    (line,) = said(0.5, (5, 2), 2)
    assert "data.height=4 and data.width=2 lose 20.0% of pictures" in line
    (line,) = said(0.25, (4, 3), 2)
    assert line.endswith("loses 25.0% of the pixels")


def test_sides_near_a_ratio():
    assert fitting((1, 2), 16, 8) == (16, 32)
    assert fitting((4, 3), 24, 8) == (32, 24)
    assert fitting((9, 16), 32, 8) == (32, 56)


def test_a_crop_that_is_published_is_not_warned_of(tmp_path):
    place = write(tmp_path, np.zeros((1, 218, 178, 3), np.uint8))
    assert look(folder(str(place)).train, Format(64, 3, crop=140)).lost == 0


def test_frames_beyond_the_first_are_said(tmp_path):
    pages = [Image.fromarray(image) for image in random_images(3)]
    for name in ("a.gif", "b.gif", "c.tif", "d.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "e.gif")
    pages[0].save(tmp_path / "f.tif")
    found = folder(str(tmp_path))
    looks = look(found.train, Format(8, 3))
    assert looks.frames == {"GIF": 2, "TIFF": 1, "WEBP": 1}
    (line,) = lines(Dataset(Shades(6), NONE, account=Account(looks=looks)))[1:]
    frames = "2 of format GIF, 1 of format TIFF, 1 of format WEBP"
    assert line == f"data: frames or pages beyond the first of {frames} are passed over"
    assert lines(Dataset(Shades(7), NONE, account=Account(looks=looks)))[1].endswith("passed over, of 6 looked at")


class Encoded:
    """One picture many times, counted."""

    def __init__(self, content: bytes) -> None:
        self.content, self.read_at = content, []

    def __len__(self):
        return 5000

    def name(self, index):
        return str(index)

    def stamp(self):
        return []

    def read(self, index):
        self.read_at.append(index)
        return self.content


def test_a_fixed_sample_is_looked_at():
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(file, "PNG")
    small, large, broken = (Encoded(content) for content in (file.getvalue(), file.getvalue() + bytes(2**24), b"no"))
    assert look(small, Format(4, 3)) == Looks(LOOKED, pytest.approx(0.5), (1, 2))
    assert small.read_at == np.random.RandomState(0).permutation(5000)[:LOOKED].tolist()
    assert look(large, Format(4, 3)).looked_at == 4
    assert look(broken, Format(4, 3)) == Looks(0)


@pytest.mark.parametrize("height", [9000, 14000])
def test_of_large_pictures_nothing_is_decoded_or_warned_of(tmp_path, height, monkeypatch):
    """Pillow warns above 89 million pixels and refuses above 179, which is for `data.max_pixels` to say."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
    Image.new("1", (14000, height)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert look(folder(str(tmp_path)).train, Format(4, 3, width=6)).looked_at == 1
