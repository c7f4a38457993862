"""--mode forecast: on processors end to end, by the TPU's compiler where that is installed, and what is refused."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import pytest

from score_sde.cli.forecasting import forecast
from score_sde.cli.main import main
from score_sde.devices import topologies
from score_sde.devices.chips import CHIPS, chip
from score_sde.devices.platform import Platform, platform
from score_sde.errors import UsageError
from score_sde.experiment import build, forecasting, objects
from score_sde.experiment.forecasting import forecasts
from score_sde.storage.workdir import Workdir
from tests.light import NETWORKS
from tests.tiny import tiny_config

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None


def config(topology: str, **changes):
    return tiny_config(**{"parallel__topology": topology, "likelihood__batch_size": 8, **changes})


@pytest.fixture
def light(monkeypatch):
    """The shallow network, in the tests that ask for it alone."""
    for name, network in NETWORKS.items():
        monkeypatch.setitem(objects.NETWORKS, name, network)


@pytest.mark.usefixtures("light")
def test_on_processors(tmp_path, capsys):
    assert forecast(config("cpu"), Workdir(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4].split()[:2] == ["topology", "program"] and lines[-3].startswith("cpu       training step ")
    found = json.loads((tmp_path / "forecast" / "cpu.json").read_text())
    step, sampling, drift = found["programs"]
    assert [p["program"] for p in (step, sampling, drift)] == list(forecasting.PROGRAMS)
    assert step["devices"] == 8 and step["fits"] is None and step["seconds"] is None and not found["tried"]
    memory, params = step["memory"], jax.tree.leaves(build(config("cpu")).abstract_params())
    parameters = sum(math.prod(leaf.shape) for leaf in params)
    parts = sum(memory[name] for name in ("arguments", "temporaries", "outputs", "code"))
    assert memory["total"] == parts - memory["aliased"]
    assert memory["aliased"] > 0 and step["collectives"]["all-reduce"]["bytes"] >= 4 * parameters
    assert 0 < sampling["flops"] < drift["flops"] < step["flops"] and found["config"]["network.nf"] == 8


def test_blocks_that_are_computed_again_or_compiled_once_are_counted_each_once():
    deep = {"network__num_res_blocks": 3, "network__attn_resolutions": ()}
    plain, again = (
        forecasting.model_flops("training step", config("cpu", **deep, **ways))
        for ways in ({}, {"training__remat": "blocks", "training__scan_blocks": True})
    )
    assert plain == again


@pytest.mark.parametrize("name", [*CHIPS, "cpu"])
def test_every_chip_is_a_platform(name):
    known = chip(name if name == "cpu" or CHIPS[name].platform == "cuda" else f"{name}:2x2")
    found = platform("cpu" if name == "cpu" else name if known.platform == "cuda" else f"{name}:2x2x1")
    assert found == Platform(known.platform)
    if known.platform == "cuda":
        assert f'device_description_str: "{known.kind}"' in topologies.card(known)


BAD = {
    "v7x:2x2": "is unknown: name a slice of TPUs, as v4:2x2x1, v5e:4x4, v5p:2x2x1, v6e:4x4, a GPU, a100, h100,",
    "v5e": "is unknown",
    "h100:2x2": "is unknown",
    "v5e:2xq": "is unknown",
    "cpu,": "is unknown",
    "h100": "takes XLA's compiler for GPUs, which is not installed: pip install",
}


@pytest.mark.parametrize("topology", BAD)
def test_unknown_topologies_and_compilers_that_are_not_there(tmp_path, topology, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=BAD[topology]):
        forecast(config(topology), Workdir(tmp_path))
    assert not list(tmp_path.iterdir())


def test_without_libtpu(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"takes the TPU's compiler, which is not installed: pip install '\.\[tpu\]'"):
        forecast(config("v5e:2x2"), Workdir(tmp_path))


@pytest.mark.parametrize("field", ["training__batch_size", "sampling__batch_size", "likelihood__batch_size"])
def test_a_batch_that_the_devices_do_not_divide(field):
    name = field.replace("__", ".")
    with pytest.raises(
        UsageError, match=f"{name}=12 is not divisible by the 8 devices of cpu: make it a multiple of 8"
    ):
        list(forecasts(config("cpu", **{field: 12})))


def test_a_topology_is_of_this_mode_alone(tmp_path, capsys):
    command = ["launch.py", "--config", "digits", "--workdir", str(tmp_path)]
    assert main([*command, "--config.parallel.topology=cpu"]) == 2
    assert "does not go with --mode=train: --mode=forecast takes one" in capsys.readouterr().err
    assert main([*command, "--mode", "forecast"]) == 2
    assert "parallel.topology='' does not go with --mode=forecast" in capsys.readouterr().err


class Kept(NamedTuple):
    compiled: jax.stages.Compiled

    def compile(self, options):
        return self.compiled


def kept(lowered):
    """The same programs, each compiled once for a number of microbatches."""
    found = {}

    def program(experiment):
        parts = experiment.config.training.microbatches
        if parts not in found:
            found[parts] = Kept(lowered(experiment).compile())
        return found[parts]

    return program


@pytest.mark.usefixtures("light")
def test_a_step_that_does_not_fit_is_told_what_makes_it_fit(tmp_path, monkeypatch, capsys):
    """On a chip with as little memory as the second change of the list needs."""
    asked = config("cpu", training__batch_size=64)
    monkeypatch.setattr(forecasting, "model_flops", lambda name, config: 1.0)
    monkeypatch.setattr(forecasting, "PROGRAMS", {"training step": kept(forecasting.PROGRAMS["training step"])})
    half, quarter = (
        next(forecasts(forecasting.changed(asked, {"training.microbatches": m}), ("training step",))) for m in (2, 4)
    )
    assert quarter.memory.total < half.memory.total
    small = chip("cpu")._replace(memory=(quarter.memory.total + half.memory.total) / 2)
    monkeypatch.setattr(forecasting, "chip", lambda topology: small)
    assert forecast(asked, Workdir(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "--config.training.microbatches=4: " in out and out.count("which fits") == 1
    found = json.loads((tmp_path / "forecast" / "cpu.json").read_text())
    (plain,), tried = found["programs"], found["tried"]
    assert plain["memory"]["total"] > half.memory.total and plain["fits"] is False
    assert [t["changes"] for t in tried] == [{"training.microbatches": 2}, {"training.microbatches": 4}]
    assert [t["fits"] for t in tried] == [False, True]


@pytest.mark.skipif(not HAS_LIBTPU, reason="needs the TPU's compiler: pip install '.[tpu]'")
@pytest.mark.parametrize("network", ["ncsnpp", "ddpm", "ncsnv2_64"])
def test_a_small_network_of_each_family_for_a_slice_of_tpus(tmp_path, network):
    """In a process of its own, which has no other devices than the processor."""
    changes = [f"--config.network.name={network}", "--config.network.nf=32", "--config.network.num_res_blocks=1"]
    if network != "ncsnv2_64":
        changes += ["--config.network.attn_resolutions=4,", "--config.network.ch_mult=1,2"]
    command = ["launch.py", "--config", "digits", "--workdir", str(tmp_path), "--mode", "forecast", *changes]
    command += ["--config.parallel.topology=v5e:2x2", "--config.likelihood.batch_size=8"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, *command], check=True, env=environment | {"JAX_PLATFORMS": "cpu"})
    found = json.loads((tmp_path / "forecast" / "v5e-2x2.json").read_text())
    for program in found["programs"]:
        assert program["devices"] == 4 and program["fits"] and program["unknown_loops"] == 0
        assert 0 < program["at_least"] < program["seconds"] < 1 and 0 < program["utilisation"] < 0.5


REFUSED = {
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (63.49G) exceeds"
    " available HBM (15.75G).": int(63.49 * 2**30),
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.5G of 15.75G"
    " hbm. Exceeded hbm capacity by 4.75G.": int(20.5 * 2**30),
    "RESOURCE_EXHAUSTED: no more": 17 * 2**30 + 1,
    "INTERNAL: something else": 0,
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_compiler_refuses_needs_what_it_says(message):
    assert forecasting.needed(message, 17 * 2**30) == REFUSED[message]


@pytest.mark.usefixtures("light")
def test_a_program_that_is_refused_does_not_fit(tmp_path, monkeypatch, capsys):
    """By a compiler that takes the second change of the list."""
    asked, lowered = config("cpu", training__batch_size=64), forecasting.PROGRAMS["training step"]

    class Refusing(NamedTuple):
        def compile(self, options):
            raise jax.errors.JaxRuntimeError(next(iter(REFUSED)))

    def program(experiment):
        return lowered(experiment) if experiment.config.training.microbatches == 4 else Refusing()

    monkeypatch.setitem(forecasting.PROGRAMS, "training step", program)
    monkeypatch.setattr(forecasting, "model_flops", lambda name, config: 1.0)
    monkeypatch.setattr(forecasting, "chip", lambda topology: chip("cpu")._replace(memory=16 * 2**30))
    assert forecast(asked, Workdir(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "63.49" in out and "--config.training.microbatches=4: " in out and out.count("which fits") == 1
    found = json.loads((tmp_path / "forecast" / "cpu.json").read_text())
    assert [t["fits"] for t in found["tried"]] == [False, True]
    assert found["programs"][0]["fits"] is False and found["programs"][0]["bytes"] is None
