"""EDM's own pickles: read without executing anything, named field by field, giving the recorded outputs."""

import pathlib
import pickle
import re
import shlex
from functools import cache
from typing import Any

import numpy as np
import pytest

from configs import published
from score_sde.adapters import asked, edm, edm_pickle
from score_sde.adapters.foreign import Foreign
from score_sde.config import Config, default
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build
from score_sde.experiment.importing import read
from tests import golden_nets
from tests.adapters.edm_files import write_pickle
from tests.adapters.official import layout_of
from tests.golden_files import GOLDEN, relative_error
from tests.golden_nets import TOLERANCES, arrays, bound, edm_conditions, edm_denoiser, state

TINY = GOLDEN / "conditioning" / "nets" / "edm_tiny.pkl"
FILE = pathlib.Path("some.pkl")
SONG = {
    "edm_ddpmpp_cond": {"fir": False},
    "edm_ncsnpp_cond": {"embedding_type": "fourier", "progressive_input": "residual"},
    "edm_skip_uncond": {"embedding_type": "fourier", "progressive_input": "input_skip", "progressive": "output_skip"},
}


def base(**network: Any) -> Config:
    """EDM's settings for images of 8x8x3."""
    config = default()
    published.edm(config)
    config.data.update(image_size=8, num_channels=3, augmentation=0.12)
    config.network.update(**{"nf": 16, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,), **network})
    if network.get("embedding_type") == "fourier":
        config.parametrization.label = "root_sigma"
    return config


def labelled(config: Config, classes: int) -> Config:
    config.data.update(condition=("label",), num_classes=classes)
    return config


@cache
def song(name: str) -> tuple[Experiment, Foreign]:
    """Our network of a recorded SongUNet, with a null label, and its parameters."""
    config = base(**SONG[name])
    if "uncond" in name:
        config.data.augmentation = 0.0
        config.network.update(ch_mult=(1, 1), attn_resolutions=())
    else:
        labelled(config, 5).network.label_dropout = 0.4
    experiment = build(config, record={})
    return experiment, edm.read(FILE, state(name), experiment.score_system.network, layout_of(experiment))


def denoised(name: str, **condition: Any) -> np.ndarray:
    experiment, foreign = song(name)
    fourier = experiment.config.network.embedding_type == "fourier"
    call = bound(experiment.score_system.network, foreign.ema, condition=condition)
    return edm_denoiser(name, lambda x, label: call(x, np.exp(label) if fourier else label))


@pytest.mark.parametrize("name", ["edm_ddpmpp_cond", "edm_ncsnpp_cond"])
def test_recorded_outputs_of_song_unet(name: str) -> None:
    """The row of zeros that is the null label's gives what no label gives there."""
    golden = arrays(name)
    for key, told in edm_conditions(golden).items():
        assert relative_error(denoised(name, **told), golden[key]) < TOLERANCES["EDM"], key


def test_recorded_outputs_of_its_pyramids() -> None:
    golden = arrays("edm_skip_uncond")
    assert relative_error(denoised("edm_skip_uncond"), golden["output"]) < TOLERANCES["EDM"]


def test_recorded_preconditionings() -> None:
    """VP: D = x - sigma F(x / sqrt(sigma^2 + 1), 999 t); VE: D = x + sigma F(x, ln(sigma / 2)).

    t is rounded as in the recording, where 1 + sigma^2 was float32. A unit in the last place of the third label, 701.5,
    is 1e-5 of the output.
    """
    name = "edm_ddpmpp_cond"
    golden, (experiment, foreign) = arrays(name), song(name)
    told = {"label": golden["class_labels"].argmax(1).astype(np.int32), "augment": golden["augment_labels"]}
    call = bound(experiment.score_system.network, foreign.ema, condition=told)
    x, sigma = golden["x"].astype(np.float64), golden["sigma"].astype(np.float64)
    wide = sigma[:, None, None, None]
    slope, least, single = np.float32(19.9), np.float32(0.1), sigma.astype(np.float32)
    t = (np.sqrt(least**2 + 2 * slope * np.log(1 + single**2)) - least) / slope
    for key, scale, out, label in (
        ("output_vpprecond", 1 / np.sqrt(wide**2 + 1), -wide, 999 * t),
        ("output_veprecond", 1.0, wide, np.log(sigma / 2)),
    ):
        output = golden_nets.nchw(call(golden_nets.nhwc(scale * x).astype(np.float32), label.astype(np.float32)))
        error = np.abs(x + out * output - golden[key]).max((1, 2, 3)) / np.abs(golden[key]).max()
        assert (error < [TOLERANCES["EDM"]] * 2 + [1e-5 if "vpp" in key else TOLERANCES["EDM"]]).all(), key


def test_every_tensor_of_a_pickle_that_raises_when_it_is_executed() -> None:
    """Loaded as its own program loads it, it would raise."""
    assert b"was executed" in TINY.read_bytes()
    pickled, expected = edm_pickle.load(TINY), state("edm_tiny_expected")
    assert (pickled.kind, pickled.inner) == ("EDMPrecond", "SongUNet")
    assert pickled.unused == ("loss_fn", "augment_pipe", "dataset_kwargs")
    assert pickled.state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(pickled.state[name], value)


def test_what_a_pickle_asks_of_the_config() -> None:
    """All fields at once, as flags, with which it is read and gives the recorded output."""
    config = base()
    with pytest.raises(UsageError) as error:
        read(build(config, record={}), TINY)
    words = shlex.split(str(error.value).partition("add ")[2])
    flags = dict(re.fullmatch(r"--config\.([\w.]+)=(.*)", word).groups() for word in words)  # pyright: ignore
    assert flags == {
        "network.nf": "8",
        "network.fir": "False",
        "data.condition": "('label',)",
        "data.num_classes": "3",
    }
    experiment = build(labelled(base(nf=8, fir=False), 3), record={})
    foreign, golden = read(experiment, TINY), arrays("edm_tiny_expected")
    assert foreign.taken == (("ema", "the average"),)
    told = {"label": golden["class_labels"].argmax(1).astype(np.int32)}
    call = bound(experiment.score_system.network, foreign.ema, condition=told)
    assert relative_error(edm_denoiser("edm_tiny_expected", call), golden["output"]) < TOLERANCES["EDM"]


def test_dhariwal_unet_in_a_pickle(tmp_path: pathlib.Path) -> None:
    """Of the layout of EDM's: this tests the layout, not the program that writes it."""
    name = "edm_adm_cond"
    options = golden_nets.config(name)
    file = write_pickle(tmp_path / "a.pkl", "EDMPrecond", options["model_type"], options, state(name), sigma_data=0.5)
    experiment = build(labelled(base(name="dhariwal", ch_mult=(1, 4)), 5), record={})
    foreign, golden = read(experiment, file), arrays(name)
    told = {"label": golden["class_labels"].argmax(1).astype(np.int32), "augment": golden["augment_labels"]}
    call = bound(experiment.score_system.network, foreign.ema, condition=told)
    assert relative_error(edm_denoiser(name, call), golden["output"]) < TOLERANCES["EDM"]


def asked_of(options: dict[str, Any], kind: str = "EDMPrecond", inner: str = "SongUNet", **fields: Any) -> Any:
    pickled = edm_pickle.Pickled(kind, inner, fields, {"img_resolution": 8, "img_channels": 3, **options}, {}, ())
    return asked.of_pickle(FILE, pickled, default())


def test_the_vp_baseline_is_the_vp_sde() -> None:
    found = asked_of({}, "VPPrecond", beta_d=19.9, beta_min=0.1)
    expected = {"sde.name": "vp", "sde.beta_min": 0.1, "sde.beta_max": 20.0, "parametrization.label": "time"}
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("options", "kind", "inner", "said"),
    [
        ({}, "VEPrecond", "SongUNet", "the preconditioning VEPrecond, and of EDM's EDMPrecond and VPPrecond"),
        ({}, "EDMPrecond", "DiT", "is of DiT, and of EDM's networks SongUNet"),
        ({"channel_mult_emb": 2}, "EDMPrecond", "SongUNet", "has channel_mult_emb=2, and 4 alone"),
        ({"channel_mult_noise": 2}, "EDMPrecond", "SongUNet", "channel_mult_noise=2"),
        ({"res_balance": 0.5}, "Precond", "UNet", "has res_balance=0.5, and 0.3 alone"),
        ({"img_resolution": "wide"}, "EDMPrecond", "SongUNet", "cannot be read as a network pickle of EDM"),
    ],
)
def test_networks_that_no_network_here_is(options: Any, kind: str, inner: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked_of(options, kind, inner)


class _Harm:
    """Unpickled by Python it would print."""

    def __reduce__(self) -> Any:
        return print, ("torch_utils.persistence",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({"ema": _Harm()}, 4), "contains builtins.print, which is neither a tensor nor a plain container"),
        (pickle.dumps({"ema": b"torch_utils.persistence"}, 4), "has no network under 'ema'"),
        (TINY.read_bytes()[:9999], "it is damaged"),
        (TINY.read_bytes() + b"more", "bytes follow its end"),
    ],
)
def test_pickles_of_no_use(content: bytes, said: str, tmp_path: pathlib.Path, capsys: Any) -> None:
    file = tmp_path / "some.pkl"
    file.write_bytes(content)
    assert edm_pickle.is_one(file)
    with pytest.raises(UsageError, match=said):
        edm_pickle.load(file)
    assert capsys.readouterr().out == ""
