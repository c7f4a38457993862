"""Files of other kinds are named by their first bytes, and the ways that are named lead to data that are read."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import re
import shlex
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from score_sde.data import ways
from score_sde.data.cache import Cache
from score_sde.data.pictures import Format
from score_sde.data.recognise import kind, listed, no_picture
from score_sde.data.resolve import array, resolve
from score_sde.errors import UsageError
from tests.data.builders import stylegan
from tests.data.making import picture, random_images, write, zipped

SOME = random_images(4)


def tar(folder: pathlib.Path, names: list[str], mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name in names:
            archive.add(write(folder, SOME) / "00000.png", name)
    return file.getvalue()


def encoded(image: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    picture(image).save(file, form)
    return file.getvalue()


KINDS = {
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a Parquet file": b"PAR1" + bytes(100),
    "an LMDB database": bytes(16) + b"\xde\xc0\xef\xbe" + bytes(100),
    "a pickle, which could run any program": b"\x80\x04.",
    "a MATLAB file": b"MATLAB 5.0 MAT-file, Platform" + bytes(100),
    "a web page (HTML)": b"<!DOCTYPE html><html>",
    "a pointer of Git LFS and not the file": b"version https://git-lfs.github.com/spec/v1\n",
    "a film, or a picture in HEIC or AVIF": b"\0\0\0\x18ftypheic" + bytes(100),
    "an IDX file of shape (2, 3, 4), as MNIST's": struct.pack(">IIII", 0x803, 2, 3, 4) + bytes(24),
    "packed with gzip": gzip.compress(b"anything"),
    "packed with bzip2": bz2.compress(b"anything"),
    "packed with xz": lzma.compress(b"anything"),
    "a 7z archive": b"7z\xbc\xaf'\x1c" + bytes(100),
    "text": b"1,2\n3,4\n",
    "empty": b"",
    **{f"one {form} picture": encoded(SOME[0], form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF")},
    "one WebP picture": encoded(SOME[0], "WEBP"),
}


@pytest.mark.parametrize("what", KINDS)
def test_kinds(tmp_path, what):
    """Where an array is asked for, and where pictures are."""
    place = tmp_path / "file"
    place.write_bytes(KINDS[what])
    for read in (lambda: array(str(place), (), Cache()), lambda: at(place)):
        with pytest.raises(UsageError, match=re.escape(f"data.path={place} is {what}: ")) as error:
            read()
        assert "allow_pickle" not in str(error.value)


def at(place: pathlib.Path, name: str = "folder"):
    return resolve(name, str(place), "", Format(8, 3), Cache("", 0.0))


def test_what_is_unknown(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(1, 200)))
    assert kind(tmp_path / "file") is kind(tmp_path) is kind(tmp_path / "nowhere") is None


def followed(way: str, place: pathlib.Path) -> str:
    """Run the commands of a way in a folder; the data.path that it names then."""
    for command in re.findall(r"`(.*?)`", way):
        program = command.replace("python", shlex.quote(sys.executable), 1) if "python" in command else command
        subprocess.run(program, shell=True, check=True, cwd=place, env={**os.environ})
    return str(place / re.findall(r"--config\.data\.path=(\S+)", way)[-1])


def way(place: pathlib.Path) -> str:
    found = kind(place)
    assert found
    return found.way


def test_the_way_from_a_tar_archive(tmp_path):
    for name, mode in (("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")):
        place = tmp_path / name.replace(".", "_")
        place.mkdir()
        (place / name).write_bytes(tar(tmp_path / "made", ["0.png", "1.png"], mode))
        assert len(at(pathlib.Path(followed(way(place / name), place))).train) == 2


def test_the_way_from_cifar_as_it_is_downloaded(tmp_path):
    for inside in ways.CIFAR:
        file = tmp_path / "cifar-10-python.tar.gz"
        file.write_bytes(tar(tmp_path / "made", [f"{inside}/data_batch_1"], "w:gz"))
        assert way(file) == f"`tar xf {file}`, then --config.data.path={inside}"


def test_the_ways_to_arrays(tmp_path):
    import scipy.io

    (tmp_path / "idx").write_bytes(struct.pack(">IIII", 0x803, 4, 8, 8) + SOME[..., 0].tobytes())
    np.testing.assert_array_equal(array(followed(way(tmp_path / "idx"), tmp_path), (), Cache()).train, SOME[..., 0])
    (tmp_path / "idx.gz").write_bytes(gzip.compress((tmp_path / "idx").read_bytes()))
    (tmp_path / "idx").unlink()
    assert way(pathlib.Path(followed(way(tmp_path / "idx.gz"), tmp_path))).startswith("`python")
    scipy.io.savemat(tmp_path / "a.mat", {"X": SOME.transpose(1, 2, 3, 0), "y": np.array([[1], [10], [3], [4]])})
    found = array(followed(way(tmp_path / "a.mat"), tmp_path), ("label",), Cache())
    np.testing.assert_array_equal(found.train, SOME)
    assert found.condition["label"].tolist() == [1, 0, 3, 4]
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    np.testing.assert_array_equal(
        array(followed(way(tmp_path / "a.csv"), tmp_path), (), Cache()).train, [[1, 2], [3, 4]]
    )
    (tmp_path / "arrays").mkdir()
    [np.save(tmp_path / "arrays" / f"{i}.npy", image) for i, image in enumerate(SOME)]
    with pytest.raises(UsageError, match=r"holds 4 \.npy and no picture: of arrays of one shape, ") as error:
        at(tmp_path / "arrays")
    np.testing.assert_array_equal(array(followed(str(error.value), tmp_path), (), Cache()).train, SOME)


def test_the_ways_to_pictures(tmp_path):
    (tmp_path / "one").write_bytes(encoded(SOME[0], "PNG"))
    (tmp_path / "one").rename(tmp_path / "one.png")
    assert len(at(pathlib.Path(followed(way(tmp_path / "one.png"), tmp_path))).train) == 1
    table = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "parquet").mkdir()
    column = [{"bytes": encoded(image, "PNG"), "path": None} for image in SOME]
    parquet.write_table(table.table({"label": [0] * 4, "image": column}), tmp_path / "parquet" / "a.parquet")
    found = at(pathlib.Path(followed(way(tmp_path / "parquet" / "a.parquet"), tmp_path / "parquet")))
    np.testing.assert_array_equal(found.train[np.arange(4)], SOME)


def test_zip_files_of_something_else(tmp_path):
    place = zipped(write(tmp_path / "set", SOME), tmp_path / "a.zip")
    with pytest.raises(UsageError, match=r"is a zip file of pictures: name it with --config\.data\.name=folder"):
        array(str(place), (), Cache())
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        np.save(tmp_path / "x.npy", SOME)
        file.write(tmp_path / "x.npy", "some/x.npy")
        file.write(tmp_path / "x.npy", "some/x.txt")
    with pytest.raises(UsageError, match=r"b\.zip holds no picture; it is a zip file of 1 \.npy, 1 \.txt: `") as error:
        at(tmp_path / "b.zip")
    assert pathlib.Path(followed(str(error.value), tmp_path), "some", "x.npy").exists()
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as file:
        file.writestr("model/data.pkl", b"")
    assert kind(tmp_path / "model.pt").what == "a PyTorch file"


def test_folders_of_something_else(tmp_path):
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb" / "data.mdb").write_bytes(bytes(4096))
    for read in (at, lambda place: array(str(place), (), Cache())):
        with pytest.raises(UsageError, match=r"is an LMDB database: of encoded pictures, `pip install lmdb`, `python"):
            read(tmp_path / "lmdb")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").write_bytes(tar(tmp_path / "made", ["0.png"], "w"))
    with pytest.raises(UsageError, match=r"holds 1 \.tar and no picture; 0\.tar is a tar archive: `mkdir -p unpacked"):
        at(tmp_path / "shards")
    with pytest.raises(UsageError, match=r"is a directory: of pictures, --config\.data\.name=folder reads it"):
        array(str(tmp_path / "shards"), (), Cache())
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "data-00000-of-00001.arrow").write_bytes(b"")
    assert kind(tmp_path / "hf").what == "a set of Hugging Face's datasets"


def test_tfrecords_where_an_array_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match=r"is a TFRecord file: name it with --config\.data\.name=folder"):
        array(str(stylegan(tmp_path / "faces", SOME)), (), Cache())


def test_what_there_is_is_listed():
    assert listed({".a": 1, ".b": 1000, ".c": 2}, most=2) == "1,000 .b, 2 .c, 1 of other kinds"
    assert listed({}) == ""
    assert "holds no picture (.png" in no_picture("/nowhere", [".hidden"])
