"""What stored values of pictures lie in: found, said, kept, and to the bit what it was where they are bytes."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from score_sde.config import default
from score_sde.config.data_checks import DEPTHS, stored_ranges
from score_sde.config.validation import validate
from score_sde.data import cache as caches
from score_sde.data import pictures
from score_sde.data.cache import Cache
from score_sde.data.folder import folder
from score_sde.data.pictures import Format
from score_sde.data.ranges import PLAIN, Extremes, scaled, written
from score_sde.data.sources import is_array
from score_sde.errors import UsageError
from score_sde.experiment import load_data
from tests.data.making import encoded, random_images, write
from tests.tiny import tiny_config

VALUES = np.random.default_rng(0).integers(0, 4096, (6, 8, 8))


@pytest.fixture
def opened(tmp_path):
    """The images of arrays, written as one file each, or of arrays in one file; more fields of the data's section."""

    def opened(arrays, ending="png", ranges="", **fields):
        place = tmp_path / "set"
        place.mkdir(exist_ok=True)
        for i, array in enumerate(arrays):
            content, path = encoded(Image.fromarray(array), ending), place / f"{i}.{ending}"
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        section = {"name": "folder", "path": str(place), "cache": str(tmp_path / "cache")}
        return load_data(tiny_config(**{f"data__{n}": v for n, v in (section | fields).items()}), ranges)

    return opened


def everything(source) -> np.ndarray:
    return np.asarray(source[np.arange(len(source))])[..., 0]


def test_plain_ranges_are_what_pictures_were_taken_for():
    """Bytes themselves; of 16 bits what dividing by 257 gives."""
    assert list(PLAIN) == list(DEPTHS)
    for dtype in (np.uint16, np.int32):
        deep = np.arange(65536).astype(dtype)
        np.testing.assert_array_equal(scaled(deep, *PLAIN[deep.dtype.name]), np.round(deep / 257))
    x = np.arange(256, dtype=np.uint8)
    assert scaled(x, *PLAIN["uint8"]) is x
    assert stored_ranges(default().data) == {}


FOUND = {
    "bytes": (np.uint8, 2, 255),
    "a mask in bytes": (np.uint8, 1, 1),
    "a mask of 16 bits": (np.uint16, 1, 1),
    "bytes in 16 bits": (np.uint16, 255, 255),
    "10 bits": (np.uint16, 256, 1023),
    "12 bits": (np.uint16, 4095, 4095),
    "14 bits": (np.uint16, 4096, 16383),
    "16 bits": (np.uint16, 16384, 65535),
    "32 bits": (np.int32, 5000, 16383),
    "up to 1": (np.float32, 1, 1),
    "real numbers": (np.float32, 200.5, 255),
}


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "on the way"])
@pytest.mark.parametrize("case", FOUND)
def test_the_range_of_files_is_the_least_that_holds_the_set(case, kept, opened):
    dtype, most, end = FOUND[case]
    arrays = (np.random.default_rng(0).uniform(0, 1, (3, 8, 8)) * most).astype(dtype)
    arrays[2, 0, 0] = most
    data = opened(arrays, "tiff", cache_limit=8.0 if kept else 0.0)
    np.testing.assert_array_equal(everything(data.train), np.round(arrays.astype(float) * (255 / end)))
    assert data.values.ranges == {arrays.dtype.name: (0, end)}


def test_twelve_bits_in_sixteen_are_said_once_and_a_later_value_changes_nothing(opened, capsys):
    arrays = VALUES.astype(np.uint16)
    data = opened(arrays)
    assert capsys.readouterr().err == f"data.path={data_path(opened)}: its uint16 values 0 to 4095 become 0 to 255\n"
    kept = written(data.values.ranges)
    brighter = np.concatenate([arrays, [np.full((8, 8), 60000, np.uint16)]])
    again = opened(brighter, ranges=kept)
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(everything(again.train)[:6], everything(data.train))
    assert (everything(again.train)[6] == 255).all() and written(again.values.ranges) == kept


def data_path(opened) -> str:
    (place,) = [cell.cell_contents for cell in opened.__closure__]
    return str(place / "set")


def test_both_splits_have_one_range(tmp_path):
    for part, most in (("train", 1000), ("test", 4000)):
        (tmp_path / "set" / part).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), most, np.uint16)).save(tmp_path / "set" / part / "0.png")
    fields = {"name": "folder", "path": str(tmp_path / "set"), "cache": str(tmp_path / "cache")}
    data = load_data(tiny_config(**{f"data__{n}": v for n, v in fields.items()}))
    assert (everything(data.train) == 62).all() and (everything(data.held_out) == 249).all()


def test_bytes_beside_deep_pictures_keep_their_own_range(opened):
    bright = random_images(1, channels=1)[0, ..., 0]
    data = opened([bright, VALUES[0].astype(np.uint16)])
    np.testing.assert_array_equal(everything(data.train), [bright, np.round(VALUES[0] * (255 / 4095))])


def test_colours_of_a_mask_are_spread_before_they_become_grey(opened):
    colours = np.random.default_rng(0).integers(0, 2, (2, 8, 8, 3), np.uint8)
    expected = [np.asarray(Image.fromarray(255 * c).convert("L")) for c in colours]
    np.testing.assert_array_equal(everything(opened(colours).train), expected)


@pytest.mark.parametrize("text", ["0,1000", "uint16=0,1000"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "on the way"])
def test_a_range_that_is_given_is_taken_and_what_lies_beyond_is_clipped(text, kept, opened):
    data = opened(VALUES.astype(np.uint16), range=text, cache_limit=8.0 if kept else 0.0)
    np.testing.assert_array_equal(everything(data.train), np.round(np.clip(VALUES, 0, 1000) * 0.255))


def test_a_set_that_fills_less_than_a_quarter_is_warned_of_and_the_remedy_works(opened, capsys):
    dark = random_images(3, channels=1)[..., 0] // 5
    dark[0, 0, 0] = 51
    np.testing.assert_array_equal(everything(opened(dark).train), dark)
    said = capsys.readouterr().err
    assert "the largest of its uint8 values is 51, which fills less than a quarter of 0 to 255" in said
    assert said.endswith("set data.range=0,51\n")
    np.testing.assert_array_equal(everything(opened(dark, range="0,51").train), 5 * dark)


@pytest.mark.parametrize("kind", ["tiff", "npy"])
@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1e6)])
def test_where_no_range_holds_the_values_the_remedy_works(kind, low, high, opened, tmp_path):
    x = np.linspace(low, high, 64, dtype=np.float32).reshape(1, 8, 8)
    fields = {}
    if kind == "npy":
        np.save(tmp_path / "x.npy", x)
        fields = {"name": "array", "path": str(tmp_path / "x.npy"), "kind": "bytes"}
    for _ in range(2):  # the second time by the note of the first
        with pytest.raises(UsageError, match=f"such as data.range={low:.9g},{high:.9g}$"):
            opened(x, "tiff", **fields)
    found = everything(opened(x, "tiff", range=f"{low:.9g},{high:.9g}", **fields).train)
    np.testing.assert_array_equal(found, np.round((x.astype(float) - low) * (255 / (high - low))))


@pytest.mark.parametrize("text", ["4095", "1,0", "0,0", "0,1,2", "uint7=0,1", "0,inf", ""])
def test_a_text_that_is_no_range(text):
    with pytest.raises(UsageError, match=r"data\.range=.* is not understood: write auto, or .* such as 0,4095"):
        validate(tiny_config(data__range=text, data__name="folder", data__path="x"))


@pytest.mark.parametrize("fields", [{"name": "digits"}, {"name": "array", "path": "x", "kind": "real"}])
def test_a_range_of_what_has_none(fields):
    with pytest.raises(UsageError, match=r"data\.range=0,4095"):
        validate(tiny_config(data__range="0,4095", **{f"data__{n}": v for n, v in fields.items()}))


ARRAYS = {
    "uint16": (VALUES.astype(np.uint16), "auto", np.round(VALUES * (255 / 4095))),
    "a mask": (VALUES > 2000, "auto", 255 * (VALUES > 2000)),
    "a mask in bytes": ((VALUES > 2000).astype(np.uint8), "auto", 255 * (VALUES > 2000)),
    "up to 1": ((VALUES / 4096).astype(np.float32), "bytes", np.round((VALUES / 4096).astype(np.float32) * 255.0)),
}


@pytest.mark.parametrize("held_out", [0, 2])
@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_of_another_range(case, held_out, tmp_path):
    stored, kind, expected = ARRAYS[case]
    np.save(tmp_path / "x.npy", stored)
    fields = {"name": "array", "path": str(tmp_path / "x.npy"), "kind": kind, "held_out": held_out}
    data = load_data(tiny_config(**{f"data__{n}": v for n, v in fields.items()}))
    found = np.concatenate(
        [everything(data.train), everything(data.held_out)] if held_out else [everything(data.train)]
    )
    assert found.dtype == np.uint8 and is_array(data.train)
    sort = lambda x: sorted(map(bytes, x.astype(np.uint8)))
    assert sort(found) == sort(expected)


def test_real_arrays_and_bytes_are_what_they_were(tmp_path):
    for x in (VALUES.astype(np.float32), VALUES.astype(np.uint8)):
        np.save(tmp_path / "x.npy", x)
        data = load_data(tiny_config(data__name="array", data__path=str(tmp_path / "x.npy")))
        assert isinstance(data.train, np.ndarray) and data.train.dtype == x.dtype
        np.testing.assert_array_equal(data.train.reshape(x.shape), x)


@pytest.fixture
def counted(monkeypatch):
    """How many pictures were decoded, and how many were looked at."""
    counts = {"decode": 0, "look": 0}

    def count(module, name):
        call = getattr(pictures, name)

        def counting(*args):
            counts[name] += 1
            return call(*args)

        monkeypatch.setattr(module, name, counting)

    count(pictures, "decode")
    count(caches, "look")
    return counts


def test_bytes_are_decoded_once_and_twelve_bits_twice_and_nothing_is_left(opened, counted, tmp_path):
    for arrays, times in ((random_images(4, channels=1)[..., 0], 1), (VALUES.astype(np.uint16), 2)):
        counted.update(decode=0)
        for _ in range(2):
            opened(arrays)
            assert counted == {"decode": times * len(arrays), "look": 0}
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def earlier(place: pathlib.Path, cache: Cache, by: float) -> None:
    """The decoded array of a folder as versions wrote it that knew no ranges."""
    files = folder(str(place)).train
    stack = np.stack([np.round(np.asarray(Image.open(files.name(i))) / by) for i in range(len(files))])
    name = caches.fingerprint(files.stamp(), [8, 1, 0])
    caches.stored(cache, name, (*stack.shape, 1), np.dtype(np.uint8), lambda: iter([stack[..., None]]))


@pytest.mark.parametrize("case", ["bytes", "16 bits", "12 bits", "masks"])
def test_arrays_of_earlier_versions_are_taken_where_they_are_right(case, opened, counted, tmp_path):
    bright = random_images(4, channels=1)[..., 0]
    arrays, by, decoded = {
        "bytes": (bright, 1, 0),
        "16 bits": (bright.astype(np.uint16) * 257, 257, 0),
        "12 bits": (bright.astype(np.uint16) * 16, 257, 4),
        "masks": (bright // 128, 1, 4),
    }[case]
    (tmp_path / "set").mkdir()
    for i, x in enumerate(arrays):
        Image.fromarray(x).save(tmp_path / "set" / f"{i}.png")
    earlier(tmp_path / "set", Cache(str(tmp_path / "cache")), by)
    end = {"12 bits": 4095, "masks": 1, "16 bits": 65535}.get(case, 255)
    expected = np.round(arrays.astype(float) * (255 / end))
    for looked in (4, 0):
        counted.update(look=0)
        data = load_data(
            tiny_config(data__name="folder", data__path=str(tmp_path / "set"), data__cache=str(tmp_path / "cache"))
        )
        np.testing.assert_array_equal(everything(data.train), expected)
        assert counted == {"decode": decoded, "look": looked}


def test_pictures_with_no_note_beside_a_damaged_one(opened, tmp_path):
    arrays = random_images(2, channels=1)[..., 0]
    opened(arrays)
    (note,) = (tmp_path / "cache").glob("*.json")
    for content in ("", "[1]", '{"uint8": 3}', "null"):
        note.write_text(content)
        np.testing.assert_array_equal(everything(opened(arrays).train), arrays)


def test_extremes_stop_where_nothing_can_change():
    seen = Extremes()
    for depth, below, enough in (("uint8", 63, 64), ("uint16", 16383, 16384)):
        seen.see(depth, 0, below)
        assert seen.wants(depth)
        seen.see(depth, 0, enough)
        assert not seen.wants(depth)
    seen.see("float32", 0, 60000)
    assert seen.wants("float32")


def test_format_of_the_largest_picture_is_not_part_of_the_cache(tmp_path):
    place = write(tmp_path / "set", random_images(2))
    for limit in (10**6, 10**7):
        part = pictures.Pictures(folder(str(place)).train, Format(8, 3, max_pixels=limit))
        caches.decoded(part, Cache(str(tmp_path / "cache")))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "on the way"])
def test_depths_without_a_range_of_their_own_have_the_least_that_holds_them(kept, opened):
    """12 bits as told, the floats of 0 to 255 as found; and floats below 0 where they are told."""
    deep, real = VALUES[:3].astype(np.uint16), (VALUES[3:] / 17.0).astype(np.float32)
    options = {"ending": "tiff", "cache_limit": 8.0 if kept else 0.0}
    data = opened([*deep, *real], range="uint16=0,4095", **options)
    expected = np.concatenate([scaled(deep, 0, 4095), scaled(real, 0, 255)])
    np.testing.assert_array_equal(everything(data.train), expected)
    shifted = opened([*deep, *(real - 100)], range="float32=-100,155", **options)
    np.testing.assert_array_equal(
        everything(shifted.train), np.concatenate([scaled(deep, 0, 4095), scaled(real - 100, -100, 155)])
    )
