"""Models that diffusers wrote give diffusers' outputs; what it computes otherwise than we do is refused by name."""

import importlib.util
import json
import pathlib
import shutil
from functools import cache
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from score_sde.adapters import torch_pickle
from score_sde.adapters.diffusers import read
from score_sde.adapters.foreign import Foreign
from score_sde.config import default
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build, importing
from tests.adapters.official import layout_of
from tests.golden_files import GOLDEN, load, quick_jit, relative_error

SKIPS = {
    "num_res_blocks": 1,
    "progressive": "output_skip",
    "progressive_input": "input_skip",
    "embedding_type": "fourier",
    "scale_by_sigma": True,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "ncsnpp": {**SKIPS, "nf": 8, "ch_mult": (1, 2, 2), "attn_resolutions": ()},
    "ncsnpp_attention": {**SKIPS, "nf": 32, "ch_mult": (1, 4), "attn_resolutions": (4,)},
    "ddpm": {"name": "ddpm", "nf": 32, "ch_mult": (1, 1), "num_res_blocks": 1, "attn_resolutions": ()},
    "ddpm_attention": {
        "name": "ddpm",
        "nf": 32,
        "ch_mult": (1, 1),
        "num_res_blocks": 1,
        "attn_resolutions": (4,),
        "up_attention": "block",
    },
}


@cache
def experiment(name: str, **changes: Any) -> Experiment:
    """Ours for the fixture of that name; changes are to its network, or data__<field>."""
    config = default()
    data = {k.removeprefix("data__"): v for k, v in changes.items() if k.startswith("data__")}
    config.network.update({**NETWORKS[name], **{k: v for k, v in changes.items() if not k.startswith("data__")}})
    config.data.update({"image_size": 8, "num_channels": 3, "centered": not name.startswith("ncsnpp"), **data})
    if config.network.embedding_type == "fourier":
        config.sde.name = "ve"
        config.parametrization.update(prediction="score", label="sigma")
    return build(config)


def imported(experiment: Experiment, path: pathlib.Path) -> Foreign:
    return read(path, experiment.score_system.network, layout_of(experiment))


def output(experiment: Experiment, foreign: Foreign, golden: dict[str, np.ndarray]) -> Any:
    level = golden["timestep"].astype(np.float32)
    return quick_jit(experiment.system.network.apply)({"params": foreign.ema}, golden["sample"], level, level)


@pytest.fixture
def model(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> pathlib.Path:
    """The directory that diffusers wrote for the fixture of that name."""
    shutil.unpack_archive(GOLDEN / "diffusers" / f"{request.param}.zip", tmp_path / request.param)
    return tmp_path / request.param


@pytest.mark.parametrize("model", NETWORKS, indirect=True)
def test_outputs_are_diffusers_own(model: pathlib.Path) -> None:
    ours = experiment(model.name)
    foreign = imported(ours, model)
    assert (foreign.step, foreign.params, foreign.mu, foreign.nu) == (0, None, None, None)
    golden = load(model.name, "diffusers")
    assert relative_error(output(ours, foreign, golden), golden["output"]) < 1e-5


@pytest.mark.parametrize("model", ["ddpm"], indirect=True)
def test_a_bin_that_is_named_is_loaded_once(model: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], torch_pickle.load
    monkeypatch.setattr(torch_pickle, "load", lambda path: loaded.append(path) or load(path))
    file = model / "diffusion_pytorch_model.bin"
    assert importing.read(experiment("ddpm"), file).source == "a diffusers UNet2DModel"
    assert loaded == [file]
    (model / "config.json").unlink()
    with pytest.raises(UsageError, match=r"neither a checkpoint of the official PyTorch code, .* nor a diffusers"):
        importing.read(experiment("ddpm"), file)


def edit(model: pathlib.Path, **settings: Any) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize("model", ["ncsnpp"], indirect=True)
def test_wherever_it_lies(model: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A directory, one with it as `unet`, the file of weights; half precision; the frequencies' old name."""
    ours = experiment("ncsnpp")
    kernel = lambda path: imported(ours, path).ema["Conv_0"]["kernel"]
    expected = kernel(model)
    weights = model / "diffusion_pytorch_model.safetensors"
    np.testing.assert_array_equal(kernel(weights), expected)
    shutil.copytree(model, tmp_path / "pipeline" / "unet")
    np.testing.assert_array_equal(kernel(tmp_path / "pipeline"), expected)
    state = load_file(weights)
    state["time_proj.W"] = state.pop("time_proj.weight")
    save_file({name: value.astype(np.float16) for name, value in state.items()}, weights)
    half = imported(ours, model).ema
    assert half["GaussianFourierProjection_0"]["W"].dtype == np.float16
    np.testing.assert_array_equal(half["Conv_0"]["kernel"], expected)


@pytest.mark.parametrize("model", ["ddpm_attention"], indirect=True)
def test_the_remedy_where_it_attends_more_often(model: pathlib.Path) -> None:
    ours = experiment("ddpm", attn_resolutions=(4,))
    with pytest.raises(UsageError, match=r"attention block up_blocks.0.attentions.0, .* network.up_attention='block'"):
        imported(ours, model)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("_class_name", "UNet2DConditionModel"),
        ("act_fn", "relu"),
        ("attention_head_dim", 8),
        ("norm_eps", 1e-5),
        ("mid_block_type", None),
        ("mid_block_scale_factor", 2**0.5),
        ("downsample_padding", 1),
        ("freq_shift", 0),
        ("time_embedding_type", "learned"),
        ("downsample_type", "resnet"),
        ("upsample_type", "resnet"),
        ("add_attention", False),
        ("resnet_time_scale_shift", "scale_shift"),
        ("num_class_embeds", 10),
        ("attn_norm_num_groups", 16),
    ],
)
@pytest.mark.parametrize("model", ["ddpm"], indirect=True)
def test_settings_that_cannot_be_met(setting: str, value: Any, model: pathlib.Path) -> None:
    edit(model, **{setting: value})
    with pytest.raises(UsageError, match=f"config.json has {setting}={value!r}, .* cannot be imported"):
        imported(experiment("ddpm"), model)


@pytest.mark.parametrize("model", ["ddpm"], indirect=True)
def test_settings_left_out_are_diffusers_defaults(model: pathlib.Path) -> None:
    settings = json.loads((model / "config.json").read_text())
    del settings["freq_shift"]
    (model / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="freq_shift=0"):
        imported(experiment("ddpm"), model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__centered": True}, "data.centered=True does not compute .* set it to False"),
        ({"scale_by_sigma": False}, "network.scale_by_sigma=False .* set it to True"),
        ({"skip_rescale": False}, "network.skip_rescale=False .* set it to True"),
        ({"fir": False}, "network.fir=False .* set it to True"),
        ({"fir_kernel": (1, 2, 1)}, r"network.fir_kernel=\(1, 2, 1\) .* set it to \(1, 3, 3, 1\)"),
        ({"nonlinearity": "relu"}, "network.nonlinearity='relu' .* set it to 'swish'"),
        ({"embedding_type": "positional"}, "network.embedding_type='positional' .* set it to 'fourier'"),
        ({"progressive": "none"}, "where it has GroupNorm up_blocks.0.skip_norm, the network has residual block"),
        ({"progressive_input": "residual"}, "where it has Combine down_blocks.0.skip_conv, the network has Downsample"),
        ({"num_res_blocks": 2}, "where it has residual block .*, the network has residual block|give network"),
        ({"attn_resolutions": (8,)}, "where it has residual block .*, the network has attention block"),
        ({"ch_mult": (1, 2)}, "give network"),
    ],
)
@pytest.mark.parametrize("model", ["ncsnpp"], indirect=True)
def test_networks_that_compute_something_else(changes: dict[str, Any], said: str, model: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=said):
        imported(experiment("ncsnpp", **changes), model)


@pytest.mark.parametrize("model", ["ddpm"], indirect=True)
def test_other_groups(model: pathlib.Path) -> None:
    edit(model, norm_num_groups=16)
    with pytest.raises(UsageError, match=r"32 channels of down_blocks.0.resnets.0.norm1.weight in 16 groups, .* in 32"):
        imported(experiment("ddpm"), model)


@pytest.mark.parametrize("model", ["ddpm"], indirect=True)
def test_another_network(model: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"set network.name to ncsnpp or ddpm"):
        read(model, object(), layout_of(experiment("ddpm")))


def test_no_config(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"has no config.json, .* copy it beside them"):
        imported(experiment("ncsnpp"), tmp_path)


@pytest.mark.parametrize("model", ["ncsnpp"], indirect=True)
def test_damaged_files(model: pathlib.Path) -> None:
    ours, weights = experiment("ncsnpp"), model / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    for length in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"safetensors cannot be read as a file of weights .* download it again"):
            imported(ours, model)
    weights.write_bytes(content)
    state = load_file(weights)
    del state["time_embedding.linear_1.weight"]
    save_file(state, weights)
    assert "kernel" not in imported(ours, model).ema["Dense_0"]  # for the tree's check to name
    for text in ("", "{", "[]", '{"_class_name": "UNet2DModel", "block_out_channels": 3}'):
        (model / "config.json").write_text(text)
        with pytest.raises(UsageError, match=r"config.json (cannot be read|has )"):
            imported(ours, model)
    (model / "config.json").unlink()
    weights.unlink()
    with pytest.raises(UsageError, match=r"has no config.json"):
        imported(ours, model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_live_against_diffusers(name: str, tmp_path: pathlib.Path) -> None:
    """Other parameters and inputs than the recorded ones, by the diffusers that is installed."""
    pytest.importorskip("diffusers")
    spec = importlib.util.spec_from_file_location("make", GOLDEN / "diffusers" / "make.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    unet = make.model(name, seed=1)
    make.save(unet, tmp_path, old=name == "ncsnpp")
    golden, ours = make.run(unet, seed=1), experiment(name)
    assert relative_error(output(ours, imported(ours, tmp_path), golden), golden["output"]) < 1e-5
    recorded = load(name, "diffusers")
    assert relative_error(make.run(make.model(name))["output"], recorded["output"]) < 1e-5
