"""Weights in shards, an index that contradicts a whole file, parameters and average of a training script."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from score_sde.adapters import diffusers, weights
from score_sde.errors import UsageError
from score_sde.experiment import importing
from tests.adapters.test_diffusers import experiment, imported
from tests.golden_files import GOLDEN

STEM = "diffusion_pytorch_model"
INDEX = f"{STEM}.safetensors.index.json"
Edit = Callable[[dict[str, str]], Any]


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.unpack_archive(GOLDEN / "diffusers" / "ncsnpp.zip", tmp_path / "model")
    return tmp_path / "model"


def shard(model: pathlib.Path, keep: bool = False) -> dict[str, Any]:
    """Put the weights in two shards with their index, as save_pretrained does; the state they hold."""
    whole = model / f"{STEM}.safetensors"
    state, places = load_file(whole), {}
    names = sorted(state)
    for k, part in enumerate((names[::2], names[1::2])):
        file = f"{STEM}-{k + 1:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, model / file)
        places |= dict.fromkeys(part, file)
    (model / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    if not keep:
        whole.unlink()
    return state


def kernel(path: pathlib.Path) -> np.ndarray:
    return imported(experiment("ncsnpp"), path).ema["Conv_0"]["kernel"]


def refused(path: pathlib.Path) -> str:
    with pytest.raises(UsageError) as error:
        kernel(path)
    return str(error.value)


def test_shards_are_put_together(model: pathlib.Path) -> None:
    expected = kernel(model)
    state = shard(model)
    for path in (model, model / INDEX):
        np.testing.assert_array_equal(kernel(path), expected)
    foreign = imported(experiment("ncsnpp"), model)
    assert (foreign.taken, foreign.unused) == (((INDEX, "the average"),), ())
    assert weights.load(model / INDEX).keys() == state.keys()


def test_a_missing_shard_is_named(model: pathlib.Path) -> None:
    shard(model)
    name = f"{STEM}-00002-of-00002.safetensors"
    (model / name).unlink()
    assert f"{model} lacks {name}, which {INDEX} names: download it too" in refused(model)
    other = f"{STEM}-00001-of-00002.safetensors"
    assert f"is one of several shards: name {model / INDEX} instead" in refused(model / other)
    (model / INDEX).unlink()
    assert f"{model} has no {STEM}.safetensors or {STEM}.bin: download the file ending in .index.json too" in refused(
        model
    )


def test_a_missing_weight_is_named(model: pathlib.Path) -> None:
    shard(model)
    index = json.loads((model / INDEX).read_text())
    index["weight_map"]["more"] = f"{STEM}-00001-of-00002.safetensors"
    (model / INDEX).write_text(json.dumps(index))
    assert "says that more is in" in refused(model)
    for places in ({"a": "../model.safetensors"}, {"a": 3}, None):
        (model / INDEX).write_text(json.dumps({"weight_map": places}))
        assert f"{INDEX} cannot be read as an index of weights" in refused(model)


def change_value(model: pathlib.Path) -> None:
    file = model / f"{STEM}-00002-of-00002.safetensors"
    state = load_file(file)
    save_file({name: value + 1 for name, value in state.items()}, file)


def change_name(model: pathlib.Path) -> None:
    index = json.loads((model / INDEX).read_text())
    index["weight_map"]["another.weight"] = index["weight_map"].pop("conv_in.weight")
    (model / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "why"), [(change_value, "has other values in"), (change_name, "another.weight is in one alone")]
)
def test_an_index_that_contradicts_a_whole_file(change: Callable, why: str, model: pathlib.Path) -> None:
    """Beside one that it agrees with it is passed over; the remedy works."""
    expected = kernel(model)
    shard(model, keep=True)
    np.testing.assert_array_equal(kernel(model), expected)
    change(model)
    said = refused(model)
    assert why in said and f"has both {STEM}.safetensors and {INDEX}, which contradict one another" in said
    (model / INDEX).unlink()
    np.testing.assert_array_equal(kernel(model), expected)


@pytest.fixture
def checkpoint(model: pathlib.Path) -> pathlib.Path:
    """checkpoint-10 of diffusers' training script: the average has half the parameters' numbers."""
    folder = model.parent / "checkpoint-10"
    for name, factor in (("unet", 1.0), ("unet_ema", 0.5)):
        shutil.copytree(model, folder / name)
        file = folder / name / f"{STEM}.safetensors"
        save_file({key: (value * factor).astype(np.float32) for key, value in load_file(file).items()}, file)
    settings = json.loads((model / "config.json").read_text())
    (folder / "unet_ema" / "config.json").write_text(json.dumps({**settings, "optimization_step": 8, "decay": 0.99}))
    (folder / "optimizer.bin").write_bytes(b"not read")
    return folder


def test_unet_and_unet_ema(model: pathlib.Path, checkpoint: pathlib.Path) -> None:
    expected = kernel(model)
    foreign = imported(experiment("ncsnpp"), checkpoint)
    assert foreign.params is not None
    np.testing.assert_array_equal(foreign.params["Conv_0"]["kernel"], expected)
    np.testing.assert_array_equal(foreign.ema["Conv_0"]["kernel"], expected / 2)
    assert foreign.step == 10
    assert foreign.taken == (("unet_ema", "the average"), ("unet", "the parameters"))
    assert foreign.unused == ("optimizer.bin",)
    other = checkpoint.rename(checkpoint.with_name("anywhere"))
    assert imported(experiment("ncsnpp"), other).step == 8


def test_one_of_them(model: pathlib.Path, checkpoint: pathlib.Path) -> None:
    """Named itself, or alone."""
    for name in ("unet", "unet_ema"):
        foreign = imported(experiment("ncsnpp"), checkpoint / name)
        (other,) = {"unet", "unet_ema"} - {name}
        assert (foreign.params, foreign.unused) == (None, (f"../{other}",))
    shutil.rmtree(checkpoint / "unet")
    foreign = imported(experiment("ncsnpp"), checkpoint)
    assert (foreign.params, foreign.taken, foreign.step) == (None, (("unet_ema", "the average"),), 10)
    np.testing.assert_array_equal(foreign.ema["Conv_0"]["kernel"], kernel(model) / 2)


def test_the_newest_of_a_training_script(checkpoint: pathlib.Path) -> None:
    (checkpoint.parent / "checkpoint-9").mkdir()
    shutil.rmtree(checkpoint.parent / "model")
    assert importing.newest(checkpoint.parent) == checkpoint
    assert importing.read(experiment("ncsnpp"), checkpoint.parent).step == 10


def test_another_scheduler_is_refused(model: pathlib.Path) -> None:
    (model / "scheduler_config.json").write_text('{"_class_name": "ScoreSdeVeScheduler", "sigma_max": 90.0}')
    assert diffusers.scheduler_of(model / f"{STEM}.safetensors") == model / "scheduler_config.json"
    with pytest.raises(UsageError, match=r"has sde.sigma_max=50.0: set sde.sigma_max=90.0"):
        importing.read(experiment("ncsnpp"), model)
