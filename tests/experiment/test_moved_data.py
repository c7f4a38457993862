"""A run and its data: moved, changed, gone, of earlier versions."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from score_sde.cli import modes
from score_sde.cli.likelihood import likelihood
from score_sde.data import identity
from score_sde.data.sources import chosen
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from tests.data.making import random_images, write
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")
SOME = random_images(20, channels=1)


def config_of(path, name="array", **changes):
    cache = {} if name == "array" else {"data__cache": str(path.parent / "cache")}
    return tiny_config(data__name=name, data__path=str(path), training__num_steps=2, **cache, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data of a run, and the run; a copy of each for every test."""
    place = tmp_path_factory.mktemp("trained")
    np.save(place / "x.npy", SOME)
    with pytest.MonkeyPatch.context() as patched:
        from score_sde.experiment import objects
        from tests.light import NETWORKS

        patched.setattr(objects, "NETWORKS", objects.NETWORKS | NETWORKS)
        assert modes.train(config_of(place / "x.npy", data__held_out=4), Workdir(place / "run")) == 0
    return place


@pytest.fixture
def place(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "own")


def go_on(place, path="x.npy", steps=4, **changes):
    config = config_of(place / path, data__held_out=4, **changes)
    config.training.num_steps = steps
    workdir = Workdir(place / "run")
    workdir.check(config)
    return modes.train(config, workdir)


def steps(place) -> int:
    with closing(Checkpoints(place / "run" / "checkpoints")) as checkpoints:
        return checkpoints.latest_step()


def test_a_run_goes_on_on_the_same_pictures_elsewhere(place):
    (place / "x.npy").rename(place / "elsewhere.npy")
    with pytest.raises(UsageError, match=r"data\.path=.*x\.npy is not a file"):
        go_on(place)
    assert go_on(place, "elsewhere.npy") == 0
    assert steps(place) == 4


CHANGED = {
    "one value": (lambda x: x ^ np.uint8(np.arange(20)[:, None, None, None] == 7), "training examples have other val"),
    "order": (lambda x: x[::-1], "the training examples have other values"),
    "count": (lambda x: x[:-1], "there are 15 training examples where there were 16"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_other_pictures_under_the_same_path_are_refused(case, place):
    change, words = CHANGED[case]
    np.save(place / "x.npy", change(SOME))
    with pytest.raises(UsageError, match=rf"x\.npy is not what the run was begun with, .*{words}.* --workdir"):
        go_on(place)
    with pytest.raises(UsageError, match=words):
        likelihood(config_of(place / "x.npy", data__held_out=4), Workdir(place / "run"))
    assert steps(place) == 2


def test_samples_need_no_data(place):
    (place / "x.npy").unlink()
    config = config_of(place / "x.npy", data__held_out=4)
    assert modes.sample(config, Workdir(place / "run")) == 0
    with pytest.raises(UsageError, match=r"data\.path=.*x\.npy is not a file: name an \.npy"):
        likelihood(config, Workdir(place / "run"))


def without_content(place) -> None:
    """As versions wrote the record that did not know their data."""
    record = json.loads((place / "run" / "config.json").read_text())
    del record["data"]["content"]
    for name in ("range", "max_pixels"):
        del record["config"]["data"][name]
    (place / "run" / "config.json").write_text(json.dumps(record))
    (place / "run" / "seals.json").unlink()


def test_a_run_of_an_earlier_version_notes_its_data_when_it_goes_on(place):
    without_content(place)
    assert go_on(place) == 0
    np.save(place / "x.npy", SOME[::-1])
    with pytest.raises(UsageError, match="the training examples have other values"):
        go_on(place, steps=6)
    np.save(place / "x.npy", SOME)
    with (place / "run" / "config_history.jsonl").open("a") as history:
        history.write('{"data": {"con')  # by a kill
    assert go_on(place, steps=6) == 0


@pytest.mark.parametrize("kind", ["new", "earlier", "imported", "imported and resumed"])
def test_the_range_is_that_of_the_run(kind, tmp_path):
    """New and imported runs find it; one that an earlier version trained goes on as it did."""
    (tmp_path / "set").mkdir()
    deep = SOME[..., 0].astype(np.uint16) * 16
    for i, x in enumerate(deep):
        Image.fromarray(x).save(tmp_path / "set" / f"{i:02d}.png")
    record = {"data": {"shape": [8, 8, 1], "kind": "bytes", "mean": [], "std": [], "labels": None}}
    record = {
        "new": None,
        "earlier": record,
        "imported": record | {"imported": {}},
        "imported and resumed": record | {"imported": {}, "resumed": True},
    }[kind]
    experiment = build(config_of(tmp_path / "set", "folder"), record)
    by = 257 if kind in ("earlier", "imported and resumed") else 4095 / 255
    np.testing.assert_array_equal(experiment.data.train[np.arange(20)][..., 0], np.round(deep / by))
    content = experiment.notes()["data"]["content"]
    assert content["range"].startswith("uint8=0.0,255.0;uint16=0.0,65535.0") == (by == 257)
    assert content["range"] == "uint16=0.0,4095.0" or by == 257


def test_a_picture_that_is_gone_is_no_news_to_a_sample_run(tmp_path):
    """Of pictures nothing is read when a run is built."""
    experiment = build(config_of(write(tmp_path / "set", SOME), "folder"))
    assert "content" not in experiment.notes()["data"]


def test_a_picture_that_was_mended_on_the_way_is_no_other_set(tmp_path, monkeypatch, capsys):
    """Where pictures are decoded when they are needed a broken one may be found in mid-run, and replaced."""
    monkeypatch.setattr(identity, "EXAMPLES", 2)
    config = config_of(write(tmp_path / "set", SOME), "folder", data__cache_limit=0.0)
    experiment = build(config)
    assert len(experiment.data.train) == 20
    record = experiment.notes()
    looked_at = chosen(20, 2).tolist()
    other, same = (f"{i:05d}.png" for i in (looked_at[0], min({0, 1, 2} - {*looked_at})))
    write(tmp_path / "set", SOME[:1] * 0, [same])
    assert len(build(config, record).data.train) == 20
    assert "files have other names or sizes than at first" in capsys.readouterr().err
    write(tmp_path / "set", SOME[:1] * 0, [other])
    with pytest.raises(UsageError, match="the training examples have other values"):
        _ = build(config, record).data
