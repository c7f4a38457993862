"""Whatever names a program keeps parameters and averages under: which is taken for what, and what is not used."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from score_sde.adapters import orbax_tree, score_sde_torch
from score_sde.adapters.foreign import Foreign
from score_sde.adapters.jax_tree import understood
from score_sde.adapters.parts import AVERAGES, unwrapped
from score_sde.adapters.torch_pickle import load
from score_sde.errors import UsageError
from tests.adapters.official import JAX_FILE, TORCH_FILE, experiment_of, layout_of

NAME = "ckpt_pt_expected"
State = dict[str, Any]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("all_modules.0.W", ("", "all_modules.0.W")),
        ("module.all_modules.0.W", ("module", "all_modules.0.W")),
        ("_orig_mod.module.all_modules.0.W", ("_orig_mod.module", "all_modules.0.W")),
        ("module._orig_mod.module.all_modules.3._orig_mod.b", ("module.module", "all_modules.3.b")),
        ("model.ema_model.conv_in.bias", ("model.ema_model", "conv_in.bias")),
        ("model", ("", "model")),
        ("backbone.all_modules.0.W", ("", "backbone.all_modules.0.W")),
    ],
)
def test_what_wraps_a_name(name: str, expected: tuple[str, str]) -> None:
    assert unwrapped(name) == expected


def read(saved: State) -> Foreign:
    return score_sde_torch.read(pathlib.Path("some.pth"), saved, layout_of(experiment_of(NAME)))


@pytest.fixture(scope="module")
def official() -> Foreign:
    return read(load(TORCH_FILE))


@pytest.fixture(scope="module")
def states(official: Foreign) -> tuple[State, State]:
    """The model's and the average's state dicts, the second at half its values."""
    model = {unwrapped(name)[1]: value for name, value in load(TORCH_FILE)["model"].items()}
    return model, {name: value / 2 for name, value in model.items() if name != "sigmas"}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def lightning(model: State, average: State) -> State:
    return {"state_dict": prefixed("model.", model) | prefixed("ema_model.module.", average), "global_step": 7}


def without_dots(model: State, average: State) -> State:
    flat = {f"model_ema.{name.replace('.', '')}": value for name, value in average.items()}
    counters = {"model_ema.decay": np.float32(0.9), "model_ema.num_updates": np.array(3)}
    return {"state_dict": prefixed("net.", model) | flat | counters, "epoch": 3}


def module_of_an_average(model: State, average: State) -> State:
    ema = prefixed("online_model.", model) | prefixed("ema_model.", average) | {"initted": np.array(True)}
    return {"step": 7, "model": prefixed("module._orig_mod.", model), "ema": ema, "scaler": None, "version": "1.0"}


FORMS: dict[str, tuple[Callable[[State, State], State], tuple[str, str], set[str]]] = {
    "lightning": (lightning, ("state_dict.ema_model.module", "state_dict.model"), {"state_dict.model.sigmas"}),
    "without dots": (
        without_dots,
        ("state_dict.model_ema", "state_dict.net"),
        {"epoch", "state_dict.model_ema.decay", "state_dict.model_ema.num_updates", "state_dict.net.sigmas"},
    ),
    "an average's module": (
        module_of_an_average,
        ("ema.ema_model", "model.module"),
        {"ema.online_model", "ema.initted", "scaler", "version", "model.module.sigmas"},
    ),
    **{
        name: (
            lambda model, average, name=name: {"model": model, name: average, "step": 7},
            (name, "model"),
            {"model.sigmas"},
        )
        for name in AVERAGES
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_torch(form: str, states: tuple[State, State], official: Foreign) -> None:
    make, (average, params), unused = FORMS[form]
    foreign = read(make(*states))
    assert dict(foreign.taken)[average] == "the average" and dict(foreign.taken)[params] == "the parameters"
    assert set(foreign.unused) == unused
    jax.tree.map(np.testing.assert_array_equal, foreign.params, official.params)
    halves = lambda tree: jax.tree.map(lambda a: a / 2, tree)
    jax.tree.map(np.testing.assert_array_equal, foreign.ema, halves(official.params))
    assert foreign.step == (0 if form == "without dots" else 7)


def test_one_of_two_averages_is_not_used(states: tuple[State, State]) -> None:
    model, average = states
    foreign = read({"step": 1, "model": model, "ema": model, "model_ema": average})
    assert dict(foreign.taken)["model_ema"] == "the average" and "ema" in foreign.unused
    np.testing.assert_array_equal(foreign.ema["Conv_0"]["bias"], average["all_modules.3.bias"])


def test_an_average_alone(states: tuple[State, State]) -> None:
    foreign = read({"ema_model": states[1], "step": 2})
    assert (foreign.params, foreign.step, dict(foreign.taken)["ema_model"]) == (None, 2, "the average")


def test_a_name_that_is_not_known_stays_for_the_check(states: tuple[State, State]) -> None:
    foreign = read({"model": states[0] | {"backbone.all_modules.0.W": np.ones(4)}, "step": 1})
    assert "backbone.all_modules.0.W" in foreign.ema
    shadow = load(TORCH_FILE) | {"model": prefixed("backbone.", states[0])}
    assert "backbone.all_modules.0.W" in read(shadow).ema  # and no sentence about how many there are


PARAMS = {"Conv_0": {"kernel": np.ones((3, 3, 2, 2), np.float32)}}
HALVES = jax.tree.map(lambda a: a / 2, PARAMS)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("wrapped", [lambda tree: tree, lambda tree: {"params": tree, "decay": np.float32(0.9)}])
def test_trees_of_jax(average: str, wrapped: Callable[[Any], Any]) -> None:
    saved = {"params": wrapped(PARAMS), average: wrapped(HALVES), "opt_state": {"0": {}}, "step": np.int32(4)}
    foreign = understood("a tree", saved)
    jax.tree.map(np.testing.assert_array_equal, (foreign.ema, foreign.params), (HALVES, PARAMS))
    assert (foreign.step, foreign.unused) == (4, ("opt_state",))
    assert foreign.taken == ((average, "the average"), ("params", "the parameters"), ("step", "the step"))


@pytest.mark.parametrize("managed", [False, True])
def test_orbax(managed: bool, tmp_path: pathlib.Path) -> None:
    """A directory of today's Flax, and the steps of a CheckpointManager; whatever dtypes it has are kept."""
    import orbax.checkpoint as ocp

    saved = {
        "params": jax.tree.map(lambda a: jax.numpy.asarray(a, "bfloat16"), PARAMS),
        "ema_params": HALVES,
        "step": 5,
    }
    if managed:
        with ocp.CheckpointManager(tmp_path) as manager:
            for step, content in ((3, {"params": PARAMS}), (20, saved)):
                manager.save(step, args=ocp.args.StandardSave(content))
    else:
        with ocp.StandardCheckpointer() as writer:
            writer.save(tmp_path / "checkpoint_5", saved)
    found = orbax_tree.find(tmp_path)
    assert found == (tmp_path / "20" / "default" if managed else tmp_path / "checkpoint_5")
    foreign = orbax_tree.read(found)
    jax.tree.map(np.testing.assert_array_equal, (foreign.ema, foreign.params), (HALVES, saved["params"]))
    assert foreign.params["Conv_0"]["kernel"].dtype == "bfloat16" and foreign.step == 5
    for file in (p for p in found.rglob("*") if p.is_file() and p.name != "_METADATA"):
        file.write_bytes(file.read_bytes()[:3])
    with pytest.raises(UsageError, match=r"cannot be read as an Orbax checkpoint .*: it is damaged"):
        orbax_tree.read(found)


def test_without_a_step_in_the_tree_an_orbax_directory_has_that_of_its_name(tmp_path: pathlib.Path) -> None:
    """As flax.training.checkpoints saves them: the highest is taken."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as writer:
        for name in ("checkpoint_5", "checkpoint_20", "weights"):
            writer.save(tmp_path / name / "all" if name == "weights" else tmp_path / "saved" / name, {"params": PARAMS})
    found = orbax_tree.find(tmp_path / "saved")
    assert found == tmp_path / "saved" / "checkpoint_20"
    assert orbax_tree.read(found).step == 20
    assert orbax_tree.read(orbax_tree.find(tmp_path / "weights") or tmp_path).step == 0


def test_several_orbax_checkpoints_in_one_directory(tmp_path: pathlib.Path) -> None:
    for name in ("ema", "raw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_METADATA").touch()
    with pytest.raises(UsageError, match=r"several Orbax checkpoints, ema, raw: name the one"):
        orbax_tree.find(tmp_path)
    assert orbax_tree.find(tmp_path / "ema") == tmp_path / "ema"


def test_the_official_tree_names_its_parts() -> None:
    from score_sde.adapters.jax_msgpack import read as read_jax

    foreign = read_jax(JAX_FILE)
    assert dict(foreign.taken) == {
        "params_ema": "the average", "optimizer.target": "the parameters", "optimizer.state": "Adam's moments",
        "step": "the step",
    }  # fmt: skip
    assert set(foreign.unused) == {"lr", "model_state", "ema_rate", "rng"}
