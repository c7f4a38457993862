"""One way from data.name and data.path to images, whatever lies there."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs.ve.celeba_ncsnpp import get_config
from score_sde.config import default
from score_sde.config.validation import validate
from score_sde.data.cache import Cache
from score_sde.data.pictures import Format
from score_sde.data.resolve import resolve
from score_sde.data.sources import Dataset, Subset, gather, hold_out, is_array, some
from score_sde.errors import UsageError
from score_sde.experiment import load_data
from tests.data import builders
from tests.data.builders import as_tfrecord, stylegan
from tests.data.making import Shades, random_images, write, zipped
from tests.data.test_pictures import resizing_matrix
from tests.data.test_records import prepare

SOME = random_images(6)


@pytest.fixture
def found(tmp_path):
    """(name, path, size, channels) -> its images, cached below the test's directory."""

    def images(
        name: str, path: object, size: int = 8, channels: int = 3, limit: float = 8.0, workers: int = 0
    ) -> Dataset:
        config = default()
        config.data.update(name=name, path=str(path), image_size=size, num_channels=channels)
        config.data.update(cache_limit=limit, workers=workers)
        config.data.cache = str(tmp_path / "cache")
        config.network.update(ch_mult=(1,), attn_resolutions=())
        validate(config)
        return load_data(config)

    return images


def everything(tmp_path) -> dict[str, object]:
    """The same images in every shape."""
    folder = write(tmp_path / "folder", SOME)
    np.save(tmp_path / "a.npy", SOME)
    np.savez(tmp_path / "a.npz", train=SOME)
    shutil.copy(tmp_path / "a.npz", tmp_path / "arrays.zip")
    zipped(folder, tmp_path / "a.zip")
    zipped(folder, tmp_path / "nameless")
    (tmp_path / "records").mkdir()
    for name in ("a.tfrecords", "unnamed", "records/faces-r03.tfrecords"):
        stylegan(tmp_path / name, SOME)
    names = ("a.npy", "a.npz", "arrays.zip", "a.zip", "nameless", "a.tfrecords", "unnamed", "records")
    return {"folder": folder, **{name: tmp_path / name for name in names}}


@pytest.mark.parametrize("name", ["cifar10", "svhn", "celeba", "lsun", "ffhq", "celebahq"])
def test_a_published_set_may_lie_there_in_any_shape(tmp_path, found, name):
    for kind, path in everything(tmp_path).items():
        np.testing.assert_array_equal(gather(found(name, path).train, np.arange(6)), SOME, err_msg=kind)


def test_folders_zip_files_and_records_by_their_own_name(tmp_path, found):
    places = everything(tmp_path)
    for kind in ("folder", "a.zip", "nameless", "a.tfrecords", "unnamed", "records"):
        images = found("folder", places[kind])
        np.testing.assert_array_equal(images.train, SOME)
        assert isinstance(images.train, np.memmap)
        lazily = found("folder", places[kind], limit=0.0)
        assert not is_array(lazily.train)
        np.testing.assert_array_equal(gather(lazily.train, np.arange(6), 3), SOME)
    for kind in ("a.npy", "a.npz"):
        with pytest.raises(
            UsageError, match=r"is (an array|a file) of numpy's( arrays)?: name it with --config\.data\.name=array"
        ):
            found("folder", places[kind])


def test_a_prepared_directory(tmp_path, found, monkeypatch):
    directory = prepare(builders.Given, tmp_path / "tfds")
    for name in ("tfds", "cifar10"):
        images = found(name, directory)
        assert (images.train.shape, images.held_out.shape) == ((20, 8, 8, 3), (10, 8, 8, 3))
        assert images.classes == ("cat", "dog", "eel")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    np.testing.assert_array_equal(found("tfds", "given").train, images.train)
    with pytest.raises(UsageError, match="name the directory of a version"):
        found("cifar10", tmp_path / "tfds" / "given")
    default = as_tfrecord(directory, tmp_path / "default")
    for name in ("tfds", "cifar10"):
        np.testing.assert_array_equal(found(name, default).train, images.train)
    with pytest.raises(UsageError, match=r"is a prepared set of TensorFlow Datasets: name it with"):
        found("folder", default)


@pytest.mark.parametrize("part", [0.0, 0.99])
def test_a_set_over_the_limit_leaves_nothing_in_the_cache(tmp_path, found, part):
    """No pixel and no label, of folders, of a file or of records; a cache that cannot be written is no hindrance."""
    (tmp_path / "cache").write_text("no directory")
    names = [f"{'ab'[i % 2]}/{i}.png" for i in range(6)]
    folders = write(tmp_path / "folders", SOME, names)
    table = write(tmp_path / "table", SOME, names)
    (table / "dataset.json").write_text(json.dumps({name: i % 2 for i, name in enumerate(names)}))
    for path in (folders, zipped(folders, tmp_path / "a.zip"), table):
        images = found("folder", path, limit=part * SOME.nbytes / 2**30)
        for image, label in zip(gather(images.train, np.arange(6)), images.condition["label"]):
            assert label == next(i % 2 for i in range(6) if (SOME[i] == image).all())
    images = found("tfds", prepare(builders.Given, tmp_path), limit=part * builders.IMAGES.nbytes / 2**30)
    conditions = images.condition, images.held_out_condition
    for source, labels in zip((images.train, images.held_out), (c["label"] for c in conditions)):
        known = {image.tobytes(): i % 3 for i, image in enumerate(builders.IMAGES)}
        np.testing.assert_array_equal(labels, [known[x.tobytes()] for x in gather(source, np.arange(len(source)))])
        assert labels.dtype == np.int32
    assert (tmp_path / "cache").read_text() == "no directory"


def test_streaming_without_workers_is_told(tmp_path, found, capsys):
    folder = write(tmp_path / "folder", SOME)
    found("folder", folder)
    found("folder", folder, limit=0.0, workers=1)
    assert capsys.readouterr().err == ""
    found("folder", folder, limit=0.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert "6 pictures are decoded when they are needed (1.07e-06 GiB in all is above data.cache_limit=0.0)" in line
    assert "data.workers=4" in line


def test_a_name_that_is_also_a_directory(tmp_path, found, monkeypatch, capsys):
    """The builder, which is told, unless the directory is, or holds, a prepared one."""
    data = prepare(builders.Given, tmp_path / "tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "given", SOME)
    assert len(found("tfds", "given").train) == 20
    said = "data.path=given: the builder of tensorflow_datasets is meant, as the directory of that name here holds no"
    assert said in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"data\.path=\./given holds no dataset_info\.json"):
        found("tfds", "./given")
    shutil.copytree(data, tmp_path / "given", dirs_exist_ok=True)
    assert len(found("tfds", "given").train) == 20
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match=r"data\.path=tfds/given holds no dataset_info\.json: name the directory of a"):
        found("tfds", "tfds/given")


@pytest.mark.parametrize(("name", "category", "builder"), [
    ("cifar10", "", "cifar10"),
    ("svhn", "", "svhn_cropped"),
    ("celeba", "", "celeb_a"),
    ("lsun", "bedroom", "lsun/bedroom"),
])  # fmt: skip
def test_without_a_path_the_builder_is_asked(monkeypatch, name, category, builder):
    class Asked(Exception):
        pass

    def asked(name):
        raise Asked(name)

    monkeypatch.setattr("score_sde.data.preparing.directory", asked)
    with pytest.raises(Asked, match=builder):
        resolve(name, "", category, Format(32, 3), Cache())


def test_celeba_is_cropped_as_published(tmp_path, found):
    faces = np.random.default_rng(0).integers(0, 256, (2, 218, 178, 3), np.uint8)
    write(tmp_path / "faces", faces)
    np.testing.assert_array_equal(found("celeba", tmp_path / "faces", 140).train, faces[:, 39:179, 19:159])
    np.testing.assert_array_equal(found("folder", tmp_path / "faces", 178).train, faces[:, 20:198])


def jpeg(seed: int) -> bytes:
    """A smooth picture of CelebA's size."""
    small = Image.fromarray(random_images(1, 8, seed=seed)[0])
    file = io.BytesIO()
    small.resize((178, 218), Image.Resampling.BICUBIC).save(file, "jpeg")
    return file.getvalue()


def test_the_real_celeba_builder_and_config(tmp_path, monkeypatch):
    """On made files: the config's pixels are those of the 140x140 in the centre, resized by the arithmetic."""
    files = {f"{i:06d}.jpg": jpeg(i) for i in range(6)}
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    downloads = made_celeba(tmp_path, list(files))
    monkeypatch.setattr(tfds.download.DownloadManager, "download", lambda self, urls: downloads)
    archive = [(f"img_align_celeba/{name}", io.BytesIO(content)) for name, content in files.items()]
    monkeypatch.setattr(tfds.download.DownloadManager, "iter_archive", lambda self, path: iter(archive))
    config = get_config()
    config.data.cache = str(tmp_path / "cache")
    validate(config)
    images = load_data(config)
    matrix = resizing_matrix(140, 64)
    squares = [np.asarray(Image.open(io.BytesIO(content)))[39:179, 19:159] for content in files.values()]
    expected = [
        np.clip(np.einsum("ij,kl,jlc->ikc", matrix, matrix, square, optimize=True), 0, 255) for square in squares
    ]
    assert (len(images.train), len(images.held_out)) == (3, 2)
    found = [*images.train, *images.held_out]
    errors = np.array([[abs(image - x).max() for x in expected] for image in found])
    assert errors.min(1).max() < 1.01  # two roundings, of the rows and of the columns
    assert sorted(errors.argmin(1)[:3]) == [0, 1, 2] and sorted(errors.argmin(1)[3:]) == [4, 5]


def made_celeba(place: pathlib.Path, names: list[str]) -> dict[str, str]:
    """Files of the builder's four tables: 3 pictures to train on, 1 for validation, 2 for tests."""
    from tensorflow_datasets.datasets.celeb_a.celeb_a_dataset_builder import ATTR_HEADINGS, LANDMARK_HEADINGS

    def table(heading: list[str], count: int) -> str:
        return "\n".join([*heading, *(" ".join([name, *["1"] * count]) for name in names)]) + "\n"

    def headed(columns: list[str]) -> str:
        return table([str(len(names)), " ".join(columns)], len(columns))

    contents = {
        "img_align_celeba": "",
        "list_eval_partition": "".join(f"{name} {part}\n" for name, part in zip(names, (0, 0, 0, 1, 2, 2))),
        "list_attr_celeba": headed(ATTR_HEADINGS),
        "landmarks_celeba": headed(LANDMARK_HEADINGS),
        "identity_celeba": table([], 1),
    }
    for name, content in contents.items():
        (place / name).write_text(content)
    return {name: str(place / name) for name in contents}


@pytest.mark.parametrize(("name", "path", "channels", "message"), [
    ("folder", "", 3, r"data\.path is empty: name a directory or a zip file of pictures"),
    ("tfds", "", 3, r"data\.path is empty: name a builder of tensorflow_datasets, such as cifar10, or a directory"),
    ("array", "", 3, r"data\.path is empty: name an \.npy or \.npz file"),
    ("ffhq", "", 3, r"nothing downloads data\.name='ffhq': name FFHQ's images1024x1024 .* or an \.npy or \.npz file"),
    ("celebahq", "", 3, r"nothing downloads data\.name='celebahq': name the 30,000 images of CelebA-HQ, as a folder"),
    ("folder", "/nowhere", 3, r"data\.path=/nowhere does not exist: name a .* or a TFRecord file of pictures$"),
    ("cifar10", "/nowhere", 3, r"data\.path=/nowhere does not exist: name .*, or a prepared TFDS directory$"),
    ("tfds", "./nowhere", 3, r"data\.path=\./nowhere is not a directory: name a prepared one, or a builder"),
    ("folder", "/nowhere", 2, r"data\.num_channels=2: pictures are read as 1 \(grey\) or 3 \(RGB\)"),
])  # fmt: skip
def test_what_is_missing_is_said(found, name, path, channels, message):
    with pytest.raises(UsageError, match=message):
        found(name, path, channels=channels)


@pytest.mark.parametrize("field", ["held_out", "workers", "cache_limit"])
def test_negative_numbers_are_refused(field):
    config = default()
    config.data[field] = -1
    with pytest.raises(UsageError, match=rf"data\.{field}=-1(\.0)? must be 0 or more"):
        validate(config)


def test_held_out_images_are_a_fixed_choice():
    """RandomState(0)'s permutation of 8 is 6 2 1 7 3 0 5 4: written down, because runs are resumed years later."""
    images = Dataset(Shades(8), np.zeros((0, 2, 2, 1), np.uint8), {"label": np.arange(8, dtype=np.int32)}, {}, ("a",))
    split = hold_out(images, 3)
    held, kept = (part[np.arange(len(part))][:, 0, 0, 0] for part in (split.held_out, split.train))
    np.testing.assert_array_equal(held, [1, 2, 6])
    np.testing.assert_array_equal(kept, [0, 3, 4, 5, 7])
    np.testing.assert_array_equal(split.condition["label"], kept)
    np.testing.assert_array_equal(split.held_out_condition["label"], held)
    assert (split.train.shape, split.held_out.shape, split.classes) == ((5, 2, 2, 1), (3, 2, 2, 1), ("a",))
    assert hold_out(images, 0) is images
    assert hold_out(images._replace(condition={}), 3).condition == {}


def test_what_cannot_be_held_out(tmp_path, found):
    images = Dataset(Shades(8), Shades(2))
    with pytest.raises(UsageError, match=r"data\.held_out=1, but 2 images are held out by the data themselves: set it"):
        hold_out(images, 1)
    with pytest.raises(UsageError, match=r"data\.held_out=8 leaves none of 8 images to train on: hold out fewer"):
        hold_out(Dataset(Shades(8), Shades(0)), 8)


def test_held_out_by_the_config(tmp_path):
    np.save(tmp_path / "a.npy", SOME)
    config = default()
    config.data.update(name="array", path=str(tmp_path / "a.npy"), num_channels=3, held_out=2)
    images = load_data(config)
    assert (len(images.train), len(images.held_out)) == (4, 2)
    both = np.concatenate([some(images.train, 10), some(images.held_out, 10)])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in SOME)


def test_some_of_many():
    np.testing.assert_array_equal(some(Shades(20), 20)[:, 0, 0, 0], np.arange(20))
    few = some(Shades(20), 5)[:, 0, 0, 0]
    np.testing.assert_array_equal(few, np.sort(np.random.RandomState(0).permutation(20)[:5]))
    np.testing.assert_array_equal(some(np.arange(20)[:, None, None, None], 5)[:, 0, 0, 0], few)


@pytest.mark.parametrize("threads", [None, 1, 2, 7, 100])
def test_threads_change_nothing(threads):
    indices = np.array([3, 1, 4, 1, 5])
    np.testing.assert_array_equal(gather(Shades(9), indices, threads)[:, 0, 0, 0], indices)
    subset = Subset(Shades(9), np.array([8, 7, 6]))
    np.testing.assert_array_equal(gather(subset, np.array([2, 0]), threads)[:, 0, 0, 0], [6, 8])
    assert len(gather(Shades(9), indices[:0], threads)) == 0
