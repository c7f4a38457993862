"""Official PyTorch checkpoints: module numbers against the published tables, every averaged parameter, both goldens."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from score_sde.adapters.score_sde_torch import from_state_dict, names, read
from score_sde.adapters.torch_pickle import load as load_torch
from score_sde.errors import UsageError
from tests.adapters.official import TORCH_FILE, experiment_of, layout_of, tiny
from tests.golden_files import agree, load, quick_jit, unpack_flat

NAME = "ckpt_pt_expected"
FOURIER = {"embedding_type": "fourier", "scale_by_sigma": True}
RES = "ResnetBlockBigGANpp"

TABLES = {  # the network -> its modules in PyTorch's order, {} standing for the residual block's class
    "A": (
        {**FOURIER, "progressive_input": "residual"},
        "GaussianFourierProjection_0 Dense_0 Dense_1 Conv_0 {}_0 {}_1 Downsample_0 {}_2 AttnBlockpp_0 {}_3"
        " AttnBlockpp_1 {}_4 {}_5 {}_6 AttnBlockpp_2 {}_7 {}_8 {}_9 GroupNorm_0 Conv_1",
    ),
    "B": (
        {**FOURIER, "progressive": "output_skip", "progressive_input": "input_skip"},
        "GaussianFourierProjection_0 Dense_0 Dense_1 Conv_0 {}_0 {}_1 Combine_0 {}_2 AttnBlockpp_0 {}_3 AttnBlockpp_1"
        " {}_4 {}_5 {}_6 AttnBlockpp_2 GroupNorm_0 Conv_1 {}_7 {}_8 {}_9 GroupNorm_1 Conv_2",
    ),
    "DDPM": (
        {"name": "ddpm", "nf": 32},
        "Dense_0 Dense_1 Conv_0 ResnetBlockDDPM_0 Downsample_0 ResnetBlockDDPM_1 AttnBlock_0 ResnetBlockDDPM_2"
        " AttnBlock_1 ResnetBlockDDPM_3 ResnetBlockDDPM_4 ResnetBlockDDPM_5 AttnBlock_2 Upsample_0 ResnetBlockDDPM_6"
        " ResnetBlockDDPM_7 GroupNorm_0 Conv_1",
    ),
    "interleaved": (
        {"resblock_type": "ddpm", "progressive": "residual", "progressive_input": "residual", "attn_resolutions": ()},
        "Dense_0 Dense_1 Conv_0 {}_0 Downsample_0 Downsample_1 {}_1 {}_2 AttnBlockpp_0 {}_3 {}_4 {}_5 GroupNorm_0"
        " Conv_1 Upsample_0 {}_6 {}_7 Upsample_1 GroupNorm_1 Conv_2",
    ),
    "resampling without parameters": (
        {
            "resblock_type": "ddpm",
            "resamp_with_conv": False,
            "progressive": "output_skip",
            "progressive_input": "input_skip",
            "attn_resolutions": (),
        },
        "Dense_0 Dense_1 Conv_0 {}_0 Downsample_0 Combine_0 {}_1 {}_2 AttnBlockpp_0 {}_3 {}_4 {}_5 GroupNorm_0 Conv_1"
        " Upsample_0 {}_6 {}_7 GroupNorm_1 Conv_2",
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_modules_are_numbered_as_published(table: str) -> None:
    network, modules = TABLES[table]
    order = modules.replace("{}", "ResnetBlockDDPMpp" if network.get("resblock_type") == "ddpm" else RES)
    found: dict[int, str] = {}
    for theirs, ours in names(layout_of(tiny(**network))).items():
        assert found.setdefault(int(theirs.split(".")[1]), ours.split("/")[0]) == ours.split("/")[0]
    expected = dict(enumerate(order.split()))
    without = {n for n in expected.values() if "sample" in n and table.startswith("resampling")}
    assert found == {i: name for i, name in expected.items() if name not in without}


def test_names_inside_a_module() -> None:
    known = names(layout_of(tiny(**TABLES["A"][0])))
    assert len(known) == 157
    assert known["all_modules.0.W"] == "GaussianFourierProjection_0/W"
    assert known["all_modules.1.weight"] == "Dense_0/kernel"
    assert known["all_modules.6.Conv2d_0.weight"] == "Downsample_0/Conv2d_0/weight"
    assert known["all_modules.8.NIN_3.b"] == "AttnBlockpp_0/NIN_3/b"
    assert known["all_modules.12.GroupNorm_1.weight"] == f"{RES}_5/GroupNorm_1/scale"
    assert known["all_modules.12.Conv_2.bias"] == f"{RES}_5/Conv_2/bias"


@pytest.mark.parametrize("name", ["net_pt_ncsnpp_ve_fir_inres", "net_pt_ncsnpp_vp_nofir"])
def test_recorded_networks(name: str) -> None:
    golden, experiment = load(name), experiment_of(name)
    params = from_state_dict(unpack_flat(golden), layout_of(experiment))
    sigma = golden["time_cond"] if experiment.config.network.scale_by_sigma else None
    output = quick_jit(experiment.system.network.apply)({"params": params}, golden["x"], golden["time_cond"], sigma)
    agree(output, name, "output", "networks")


@pytest.fixture(scope="module")
def saved() -> dict[str, Any]:
    return load_torch(TORCH_FILE)


def test_the_official_file(saved: dict[str, Any]) -> None:
    """Its outputs under averaged and raw parameters, as the official code recorded them."""
    golden, experiment = load(NAME), experiment_of(NAME)
    foreign = read(TORCH_FILE, saved, layout_of(experiment))
    assert (foreign.step, foreign.adam_updates) == (golden["step"], 5)
    apply = quick_jit(experiment.system.network.apply)
    for params, key in ((foreign.ema, "output_ema"), (foreign.params, "output_raw")):
        output = apply({"params": params}, golden["x"], golden["time_cond"], golden["time_cond"])
        agree(output, NAME, key, "checkpoints")


def test_every_averaged_parameter(saved: dict[str, Any]) -> None:
    """All 157, the frequencies that the file's list leaves out included, as the official code gave them names."""
    golden = load(NAME)
    packed = {"params_index": golden["ema_state_dict_index"], "params_flat": golden["ema_state_dict_flat"]}
    layout = layout_of(experiment_of(NAME))
    expected = flatten_dict(from_state_dict(unpack_flat(packed), layout), sep="/")
    found = flatten_dict(read(TORCH_FILE, saved, layout).ema, sep="/")
    assert found.keys() == expected.keys() == set(names(layout).values())
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_moments_belong_to_their_parameters(saved: dict[str, Any]) -> None:
    """By index in the file, where the frequencies count but have none: they get zeros."""
    layout = layout_of(experiment_of(NAME))
    foreign, known = read(TORCH_FILE, saved, layout), names(layout)
    mu, nu = flatten_dict(foreign.mu, sep="/"), flatten_dict(foreign.nu, sep="/")
    model = [name.removeprefix("module.") for name in saved["model"] if "sigmas" not in name]
    state = saved["optimizer"]["state"]
    assert set(range(len(model))) - state.keys() == {model.index("all_modules.0.W")}
    for i, moments in state.items():
        sum_there = [np.abs(moments[m].astype(np.float64)).sum() for m in ("exp_avg", "exp_avg_sq")]
        sum_here = [np.abs(tree[known[model[i]]].astype(np.float64)).sum() for tree in (mu, nu)]
        np.testing.assert_allclose(sum_here, sum_there, rtol=1e-12)
        assert tuple(sorted(moments["exp_avg"].shape)) == tuple(sorted(mu[known[model[i]]].shape))
    assert not mu["GaussianFourierProjection_0/W"].any() and not nu["GaussianFourierProjection_0/W"].any()
    kernel = state[model.index("all_modules.3.weight")]["exp_avg"]
    np.testing.assert_array_equal(mu["Conv_0/kernel"], kernel.transpose(2, 3, 1, 0))


def test_a_model_alone(saved: dict[str, Any]) -> None:
    layout = layout_of(experiment_of(NAME))
    full = read(TORCH_FILE, saved, layout)
    for part in ({"model": saved["model"]}, saved["model"]):
        foreign = read(TORCH_FILE, part, layout)
        assert (foreign.step, foreign.params, foreign.mu) == (0, None, None)
        np.testing.assert_array_equal(foreign.ema["Conv_0"]["kernel"], full.params["Conv_0"]["kernel"])  # pyright: ignore[reportOptionalSubscript]


def test_a_part_missing(saved: dict[str, Any]) -> None:
    """The average stays the average where the optimizer is missing, and the step the step."""
    layout = layout_of(experiment_of(NAME))
    full, leaf = read(TORCH_FILE, saved, layout), lambda tree: tree["Conv_0"]["kernel"]
    without = lambda *keys: {k: v for k, v in saved.items() if k not in keys}
    began = {**saved, "optimizer": {**saved["optimizer"], "state": {}}}
    for part in (without("optimizer"), began):
        foreign = read(TORCH_FILE, part, layout)
        assert (foreign.step, foreign.mu, foreign.nu, foreign.adam_updates) == (5, None, None, 0)
        np.testing.assert_array_equal(leaf(foreign.ema), leaf(full.ema))
        np.testing.assert_array_equal(leaf(foreign.params), leaf(full.params))
    foreign = read(TORCH_FILE, without("ema"), layout)
    assert (foreign.step, foreign.params, foreign.adam_updates) == (5, None, 5)
    assert foreign.source == "an official PyTorch checkpoint without an average"
    np.testing.assert_array_equal(leaf(foreign.ema), leaf(full.params))
    np.testing.assert_array_equal(leaf(foreign.nu), leaf(full.nu))
    foreign = read(TORCH_FILE, without("ema", "optimizer"), layout)
    assert (foreign.step, foreign.params, foreign.mu) == (5, None, None)
    with pytest.raises(UsageError, match="KeyError: 'step'"):
        read(TORCH_FILE, without("optimizer", "step"), layout)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ema": {"num_updates": 1, "shadow_params": []}}, "0 averaged parameters for 156 trained ones"),
        ({"ema": None}, "cannot be read as an official PyTorch checkpoint"),
        (
            {"optimizer": {"state": {}, "param_groups": [{"params": [0]}]}},
            "1 parameters in its optimizer for 157 in its model",
        ),
        ({"model": {"module.all_modules.0.W": "text"}}, "not an array"),
        ({"step": -2}, "its step is -2"),
        ({"step": 2**31}, "its step is 2147483648"),
        ({"step": "many"}, "cannot be read"),
    ],
)
def test_what_is_no_checkpoint(change: dict[str, Any], said: str, saved: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read(pathlib.Path("some.pth"), saved | change, layout_of(experiment_of(NAME)))
    assert "some.pth" in str(error.value)


def test_the_golden_is_the_published_network() -> None:
    official = json.loads(str(load(NAME)["config_json"]))
    network = experiment_of(NAME).score_system.network
    for field in dataclasses.fields(network):
        if field.name in official and field.name not in ("name", "centered"):
            value = getattr(network, field.name)
            assert (list(value) if isinstance(value, tuple) else value) == official[field.name]
