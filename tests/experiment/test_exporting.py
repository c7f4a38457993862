"""Exports: official files come back name for name, what is imported again is the same to the bit, nothing is lost."""

import errno
import functools
import json
import os
import pathlib
import shutil
import zipfile
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from score_sde.adapters import weights
from score_sde.adapters.foreign import flax_to_torch
from score_sde.adapters.parts import unwrapped
from score_sde.adapters.torch_pickle import load as load_torch
from score_sde.cli import exporting
from score_sde.cli.main import main
from score_sde.devices.arrays import collect
from score_sde.errors import CheckpointError, UsageError
from score_sde.experiment import Experiment, build
from score_sde.experiment.exporting import FORMATS, export_checkpoint
from score_sde.experiment.importing import import_checkpoint, read
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from score_sde.training.snapshots import save_snapshot
from tests.adapters import test_diffusers
from tests.adapters.official import JAX_FILE, TORCH_FILE, config_of
from tests.golden_files import load, unpack_flat

NAME = "ckpt_jax_expected"
META = {"step": 7, "position": 112, "pending": []}


@functools.cache
def built(**changes: Any) -> Experiment:
    config = config_of(NAME)
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    return build(config, record={})


def run_of(experiment: Experiment, folder: pathlib.Path) -> tuple[Workdir, Any]:
    """A run with a checkpoint whose every number is another."""
    leaves, structure = jax.tree.flatten(experiment.abstract_state())
    draw = np.random.default_rng(0)
    values = [jnp.asarray(draw.normal(size=a.shape), a.dtype) if a.shape else jnp.asarray(7, a.dtype) for a in leaves]
    state, run = structure.unflatten(values), Workdir(folder)
    with closing(Checkpoints(run.checkpoints)) as checkpoints:
        checkpoints.save(7, state, META)
    run.claim(experiment.config, **experiment.notes())
    return run, state


@pytest.fixture
def imported(tmp_path: pathlib.Path) -> Any:
    """(file) -> the run of an imported file."""

    def make(file: pathlib.Path, **changes: Any) -> Workdir:
        run = Workdir(tmp_path / file.name)
        import_checkpoint(built(**changes), file, run)
        return run

    return make


def same(ours: Any, theirs: Any) -> None:
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_the_official_jax_file_comes_back(imported: Any) -> None:
    """Name for name in its order, shape, dtype and bytes; the rate, the average's rate and the key are the config's."""
    done = export_checkpoint(built(optimizer__learning_rate=0.01), imported(JAX_FILE), "jax")
    assert done.path.name == "checkpoint_5" and done.parameters == 12_287
    ours, theirs = (serialization.msgpack_restore(path.read_bytes()) for path in (done.path, JAX_FILE))
    assert list(ours) == list(theirs)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), ours) == jax.tree.map(lambda a: (a.shape, a.dtype), theirs)
    for name in ("step", "optimizer", "params_ema", "model_state"):
        same(ours[name], theirs[name])
    assert (ours["lr"], ours["ema_rate"]) == (np.float32(0.01), np.float32(0.9999))


def test_the_official_torch_file_comes_back(imported: Any) -> None:
    """Model and average, but for DataParallel's prefix; the table of noise levels is the file's own to the bit."""
    run, saved = imported(TORCH_FILE), load_torch(TORCH_FILE)
    model = {unwrapped(name)[1]: np.asarray(value) for name, value in saved["model"].items()}
    raw = load_file(export_checkpoint(built(sampling__average="raw"), run, "safetensors").path)
    same(raw, {name: model[name] for name in raw})
    assert raw.keys() == model.keys() and "sigmas" in raw
    golden = load("ckpt_pt_expected")
    packed = {"params_index": golden["ema_state_dict_index"], "params_flat": golden["ema_state_dict_flat"]}
    average = {unwrapped(name)[1]: value for name, value in unpack_flat(packed).items()}
    path = export_checkpoint(built(), run, "safetensors").path
    found = load_file(path)
    same(found, average | {"sigmas": model["sigmas"]} if "sigmas" not in average else average)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt"}  # what diffusers and transformers ask of a file


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_imported_again_is_the_same(format: str, tmp_path: pathlib.Path) -> None:
    """Parameters and average; of JAX's files the moments and counters too. ddpm has matrices, biases and attention."""
    changes = {f"network__{k}": v for k, v in test_diffusers.NETWORKS["ddpm_attention"].items()}
    changes |= {"sde__name": "vp", "parametrization__prediction": "noise", "parametrization__label": "time"}
    changes |= {"data__centered": True, "network__embedding_type": "positional"}
    changes |= {"network__scale_by_sigma": False}
    experiment = built(**changes)
    run, state = run_of(experiment, tmp_path / "run")
    done = export_checkpoint(experiment, run, format)
    assert done.path.relative_to(run.path / "export").parts[0] == f"{format}-7"
    foreign = read(experiment, done.path)
    same(foreign.ema, collect(state.averages["constant"]["score"]))
    if format == "jax":
        same(foreign.params, collect(state.params["score"]))
        mu, nu, count = experiment.optimizers["score"].moments(state.optimizer["score"])
        same((foreign.mu, foreign.nu), collect((mu, nu)))
        assert (foreign.step, foreign.adam_updates, int(count)) == (7, 7, 7)


@pytest.mark.parametrize("name", ["ncsnv2_64", "ddpm"])
def test_networks_without_a_torch_form(name: str, tmp_path: pathlib.Path) -> None:
    """RefineNets go to JAX's file alone; a U-Net beyond the official code keeps its numbering, and that is said."""
    experiment = built(network__name=name, network__nf=32, network__embedding_type="positional",
                       network__up_attention="block")  # fmt: skip
    run, state = run_of(experiment, tmp_path / "run")
    if name == "ddpm":
        done = export_checkpoint(experiment, run, "safetensors")
        assert str(done).endswith("the official code itself has no network with this network.up_attention")
    else:
        with pytest.raises(UsageError, match=r"network.name='ncsnv2_64' .* Export it with --format=jax$"):
            export_checkpoint(experiment, run, "safetensors")
        done = export_checkpoint(experiment, run, "jax")
    same(read(experiment, done.path).ema, collect(state.averages["constant"]["score"]))


def test_a_width_that_is_put_together(tmp_path: pathlib.Path) -> None:
    experiment = built(ema__averages=("power",), sampling__average="power_0.070")
    run, state = run_of(experiment, tmp_path / "run")
    save_snapshot(run.averages / "00000003.npz", state.averages, 48)
    done = export_checkpoint(experiment, run, "safetensors")
    assert done.path.parent.name == "safetensors-7-power_0.070" and "the average 'power_0.070'" in str(done)
    expected = experiment.weights_of(state, "power_0.070", META["position"], run.averages)
    same(read(experiment, done.path).ema, collect(expected["score"]))


@pytest.fixture(scope="module")
def of_diffusers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of the network of diffusers' fixture, to be copied."""
    return run_of(test_diffusers.experiment("ncsnpp"), tmp_path_factory.mktemp("of_diffusers") / "run")[0].path


def test_a_diffusers_pipeline(of_diffusers: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The config of the fixture that diffusers wrote itself, but for what has no meaning for its embedding."""
    experiment, run = test_diffusers.experiment("ncsnpp"), Workdir(shutil.copytree(of_diffusers, tmp_path / "run"))
    folder = export_checkpoint(experiment, run, "diffusers", tmp_path / "pipeline").path
    assert sorted(p.name for p in folder.iterdir()) == ["model_index.json", "scheduler", "unet"]
    with zipfile.ZipFile(test_diffusers.GOLDEN / "diffusers" / "ncsnpp.zip") as archive:
        theirs = json.loads(archive.read("config.json"))
        there = weights.load(pathlib.Path(archive.extract("diffusion_pytorch_model.safetensors", tmp_path)))
    ours = json.loads((folder / "unet" / "config.json").read_text())
    unused = {"flip_sin_to_cos", "freq_shift", "num_train_timesteps", "dropout"}
    assert {k: v for k, v in theirs.items() if k not in unused} == {k: v for k, v in ours.items() if k not in unused}
    here = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {n: a.shape for n, a in here.items()} == {n: a.shape for n, a in there.items()}
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "ScoreSdeVePipeline" and index["unet"] == ["diffusers", "UNet2DModel"]
    settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert (settings["_class_name"], settings["sigma_max"]) == ("ScoreSdeVeScheduler", 50.0)


def test_what_diffusers_has_not_is_refused_field_by_field(tmp_path: pathlib.Path) -> None:
    run, _ = run_of(built(sde__name="subvp", **TIME), tmp_path / "run")
    with pytest.raises(UsageError) as error:
        export_checkpoint(built(sde__name="subvp", **TIME), run, "diffusers")
    for said in ("network.progressive_input='residual' (there: 'none')", "network.fir=True (there: False)",
                 "sde.name='subvp'", "Export it with --format=safetensors or jax"):  # fmt: skip
        assert said in str(error.value)
    assert not (run.path / "export").exists()


TIME = {"network__embedding_type": "positional", "network__scale_by_sigma": False,
        "parametrization__prediction": "noise", "parametrization__label": "time"}  # fmt: skip


def test_a_transposed_array_keeps_its_order(tmp_path: pathlib.Path) -> None:
    """safetensors itself writes its bytes in another one."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    weights.save(tmp_path / "file", {"a.weight": flax_to_torch("a.weight", matrix)})
    np.testing.assert_array_equal(load_file(tmp_path / "file")["a.weight"], matrix.T)
    save_file({"a": matrix.T}, tmp_path / "scrambled")
    assert (load_file(tmp_path / "scrambled")["a"] != matrix.T).any()


@pytest.mark.parametrize("format", ["safetensors", "diffusers"])
def test_nothing_of_others_is_overwritten(
    format: str, of_diffusers: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = test_diffusers.experiment("ncsnpp")
    run, place = Workdir(shutil.copytree(of_diffusers, tmp_path / "run")), tmp_path / "place"
    export_checkpoint(experiment, run, format, place)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "restore", None)  # which is not asked for it
        with pytest.raises(UsageError, match=r"exists already: add --overwrite, or name another place by --output"):
            export_checkpoint(experiment, run, format, place)
    export_checkpoint(experiment, run, format, place, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("of years")
    with pytest.raises(UsageError, match=r"is a directory: name a file|holds thesis.tex, which no export wrote"):
        export_checkpoint(experiment, run, format, other, overwrite=True)
    if format == "diffusers":
        with pytest.raises(UsageError, match="is a file, and diffusers' models are directories"):
            export_checkpoint(experiment, run, format, other / "thesis.tex", overwrite=True)
    assert (other / "thesis.tex").read_text() == "of years"


@pytest.mark.parametrize("format", ["safetensors", "diffusers"])
def test_a_full_disk_leaves_what_was_there(
    format: str, of_diffusers: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = test_diffusers.experiment("ncsnpp")
    run, place = Workdir(shutil.copytree(of_diffusers, tmp_path / "run")), tmp_path / "place"
    export_checkpoint(experiment, run, format, place)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(path: pathlib.Path, *arguments: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(weights, "save", fail)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\): free some space"):
        export_checkpoint(experiment, run, format, place, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_command_line(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run, _ = run_of(built(), tmp_path / "run")
    config = tmp_path / "config.py"
    config.write_text(f"from tests.adapters.official import config_of\nget_config = lambda: config_of({NAME!r})\n")
    launch = lambda *more: main(["launch.py", f"--config={config}", f"--workdir={run.path}", *more])
    assert launch("--mode=export", "--format=jax") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"exported to {run.path / 'export' / 'jax-7' / 'checkpoint_7'}: the official JAX code's")
    refused = {
        ("--mode=export",): "--format is missing: choose from safetensors, diffusers, jax",
        ("--mode=export", "--format=safetensor"): "did you mean safetensors?",
        ("--mode=export", "--format=jax", "--output="): "--output= is empty",
        ("--mode=sample", "--format=jax"): "--format=jax does not go with --mode=sample: add --mode=export",
        ("--output=x",): "--output=x does not go with --mode=train: add --mode=export",
        ("--mode=export", "--format=jax"): "exists already: add --overwrite",
    }
    for arguments, expected in refused.items():
        assert launch(*arguments) == 2
        assert expected in capsys.readouterr().err
    assert launch("--mode=export", "--format=jax", "--overwrite") == 0


def test_the_words_of_the_flag_are_the_formats() -> None:
    assert tuple(FORMATS) == exporting.FORMATS
