"""EDM's networks: a state dict under its names gives the outputs of its network, written anew in NumPy."""

import pathlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from score_sde.adapters import edm
from score_sde.adapters.foreign import flat
from score_sde.adapters.layout import replay
from score_sde.config import load
from score_sde.errors import UsageError
from score_sde.experiment import Experiment, build
from tests.adapters.official import layout_of
from tests.adapters.song_unet import SongUNet
from tests.golden_files import quick_jit, relative_error

ROOT = pathlib.Path(__file__).parents[2]
NAMES = {"ddpmpp": False, "ncsnpp": True}
DRAW = np.random.default_rng(1)
X, AUGMENT = DRAW.normal(size=(2, 8, 8, 3)), DRAW.normal(size=(2, 9))
SIGMA = np.array([0.05, 7.0])


@cache
def theirs(name: str) -> tuple[SongUNet, np.ndarray]:
    network = SongUNet(fourier=NAMES[name])
    return network, network(X, np.log(SIGMA) / 4, AUGMENT)


@cache
def ours(name: str, **network: Any) -> Experiment:
    config = load(str(ROOT / "configs" / "edm" / f"cifar10_{name}.py"))
    config.network.update(**{"nf": 8, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": (4,), **network})
    config.data.image_size = 8
    return build(config, record={})


def read(experiment: Experiment, state: Any) -> Any:
    return edm.read(pathlib.Path("some.pth"), state, experiment.score_system.network, layout_of(experiment))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_its_network(name: str) -> None:
    network, expected = theirs(name)
    experiment = ours(name)
    assert edm.is_model(network.state)
    foreign = read(experiment, network.state)
    here = experiment.abstract_params()["score"]
    assert {n: a.shape for n, a in flat(foreign.ema).items()} == {n: a.shape for n, a in flat(here).items()}
    label = np.exp(np.log(SIGMA) / 4) if NAMES[name] else np.log(SIGMA) / 4
    apply = quick_jit(experiment.score_system.network.apply)
    given = [a.astype(np.float32) for a in (X, label)]
    output = apply({"params": foreign.ema}, *given, condition={"augment": AUGMENT.astype(np.float32)})
    assert relative_error(output, expected) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_configs_of_the_release(name: str) -> None:
    """Every parameter of configs/edm has one name there."""
    experiment = build(load(str(ROOT / "configs" / "edm" / f"cifar10_{name}.py")), record={})
    network = experiment.score_system.network
    layout, abstract = replay(lambda: experiment.abstract_params()["score"])
    known = edm._names(pathlib.Path("some.pth"), 32, network, layout)
    assert sorted(known.values()) == sorted(flat(abstract))
    assert {"map_layer1.weight", "enc.16x16_block3.q.weight", "dec.8x8_in0.proj.bias"} <= known.keys()
    assert ("enc.16x16_aux_residual.weight" in known) == ("map_noise.freqs" in known) == NAMES[name]


def test_what_wraps_it() -> None:
    """The state dict below `ema`, or of the network without EDMPrecond."""
    state = theirs("ddpmpp")[0].state
    bare = {name.removeprefix("model."): value for name, value in state.items()}
    for form, said in (({"ema": state}, "ema.model"), (bare, "its parameters")):
        foreign = read(ours("ddpmpp"), form)
        assert foreign.taken == ((said, "the average"),)
        np.testing.assert_array_equal(foreign.ema["Dense_0"]["kernel"], state["model.map_layer0.weight"].T)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fir": True}, r"network.fir=True, .* set network.fir=False"),
        ({"skip_rescale": False}, "network.skip_rescale=False .* set it to True"),
        ({"resblock_type": "ddpm"}, "network.resblock_type='ddpm' .* set it to 'biggan'"),
    ],
)
def test_networks_that_compute_something_else(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(ours("ddpmpp", **change), theirs("ddpmpp")[0].state)


@pytest.mark.parametrize("change", [{"num_res_blocks": 2}, {"attn_resolutions": (8,)}, {"ch_mult": (2, 2)}])
def test_another_architecture(change: dict[str, Any]) -> None:
    """For the tree's check to name."""
    experiment = ours("ddpmpp", **change)
    shapes = lambda tree: {name: leaf.shape for name, leaf in flat(tree).items()}
    foreign = read(experiment, theirs("ddpmpp")[0].state)
    assert shapes(foreign.ema) != shapes(experiment.abstract_params()["score"])


def test_another_preconditioning() -> None:
    config = load(str(ROOT / "configs" / "edm" / "cifar10_ddpmpp.py"))
    edm.check(pathlib.Path("some.pth"), config)
    config.parametrization.update(prediction="noise", label="time")
    with pytest.raises(UsageError, match=r"set parametrization.prediction='edm', parametrization.label='log_sigma'"):
        edm.check(pathlib.Path("some.pth"), config)
