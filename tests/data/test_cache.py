"""The cache of decoded pictures: once is enough, half a file is not, and what cannot be written is said."""

import multiprocessing
import pathlib
import zlib

import numpy as np
import pytest

from score_sde.data import pictures
from score_sde.data.cache import Cache, decoded, fits
from score_sde.data.folder import folder
from score_sde.data.pictures import Format, Pictures
from score_sde.errors import CheckpointError, UsageError
from tests.data.making import random_images, write

SOME = random_images(30)


@pytest.fixture
def place(tmp_path):
    return write(tmp_path / "set", SOME)


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"))


@pytest.fixture
def count(monkeypatch):
    """How many pictures were decoded."""
    counted, decode = [], pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda *args: counted.append(args) or decode(*args))
    return lambda: len(counted)


FORM = Format(8, 3)


def opened(place, cache, form=FORM):
    return decoded(Pictures(folder(str(place)).train, form), cache)


def the_file(cache) -> pathlib.Path:
    (file,) = pathlib.Path(cache.directory).glob("*.npy")
    return file


def test_the_second_opening_decodes_nothing(place, cache, count):
    for _ in range(2):
        images = opened(place, cache)
        assert isinstance(images, np.memmap)
        np.testing.assert_array_equal(images, SOME)
        assert count() == 30
    assert not images.flags.writeable
    assert not list(pathlib.Path(cache.directory).glob("unfinished*"))


def test_the_file_is_an_npy_file_and_its_checksum(place, cache):
    opened(place, cache)
    np.testing.assert_array_equal(np.load(the_file(cache)), SOME)
    assert the_file(cache).read_bytes()[-4:] == zlib.crc32(SOME.tobytes()).to_bytes(4, "little")


@pytest.mark.parametrize("kind", ["truncated", "a byte short", "flipped bit", "longer", "empty", "text", "other shape"])
def test_a_damaged_file_is_rebuilt(place, cache, count, kind):
    opened(place, cache)
    file, content = the_file(cache), the_file(cache).read_bytes()
    flipped = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    changed = {
        "truncated": content[:2000],
        "a byte short": content[:-1],
        "flipped bit": flipped,
        "longer": content + b"0",
        "empty": b"",
        "text": b"hello, world",
    }
    if kind == "other shape":
        np.save(file, SOME[:3])
    else:
        file.write_bytes(changed[kind])
    np.testing.assert_array_equal(opened(place, cache), SOME)
    assert count() == 60
    assert file.read_bytes() == content


def test_other_files_or_another_format_are_another_array(place, cache, count):
    opened(place, cache)
    opened(place, cache, Format(4, 3))
    opened(place, cache, Format(8, 1))
    opened(place, cache, Format(8, 3, crop=4))
    assert count() == 120
    write(place, random_images(1, seed=5), ["00004.png"])
    images = opened(place, cache)
    assert count() == 150
    np.testing.assert_array_equal(images[4], random_images(1, seed=5)[0])


def test_the_limit_is_for_the_whole_set(place, cache):
    found = folder(str(place))
    found = found._replace(held_out=found.train)
    for limit, fit in ((0.0, False), (1.99 * SOME.nbytes / 2**30, False), (2 * SOME.nbytes / 2**30, True)):
        assert fits(found, FORM, cache._replace(limit=limit)) == fit


def test_no_picture_is_no_file(place, cache):
    empty = folder(str(place)).held_out
    assert decoded(Pictures(empty, Format(8, 3)), cache).shape == (0, 8, 8, 3)


def test_a_broken_picture_leaves_nothing_behind(place, cache):
    (place / "00010.png").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"00010\.png cannot be decoded"):
        opened(place, cache)
    assert not [path for path in pathlib.Path(cache.directory).iterdir() if path.suffix != ".lock"]


def test_what_cannot_be_written_is_said(place, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    remedy = (
        r"data\.cache='.*/file/x' cannot be written \(Not a directory\): name another directory, or set data\.cache_l"
    )
    with pytest.raises(UsageError, match=remedy):
        opened(place, Cache(str(tmp_path / "file" / "x")))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\): name another"):
        opened(place, Cache(str(tmp_path / "full")))
    assert not list((tmp_path / "full").glob("*.npy"))


def test_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().path == tmp_path / "score_sde" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Cache().path == pathlib.Path.home() / ".cache" / "score_sde" / "data"
    assert Cache("~/x").path == pathlib.Path.home() / "x"


def _open_in_a_process(place, cache, barrier, counts):
    number = [0]
    decode = pictures.decode

    def counting(*args):
        number[0] += 1
        return decode(*args)

    pictures.decode = counting
    barrier.wait()
    images = opened(place, cache)
    counts.put((number[0], bool(np.array_equal(images, SOME))))


def test_two_processes_decode_once(place, cache):
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_open_in_a_process, args=(place, cache, barrier, counts)) for _ in range(2)]
    [process.start() for process in processes]
    results = sorted(counts.get(timeout=120) for _ in processes)
    [process.join() for process in processes]
    assert results == [(0, True), (30, True)]
