"""Runs of variational diffusion: by command, killed and resumed, over devices, in microbatches; what is refused."""

import json
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.config import default
from score_sde.config.fields import ODES, STOCHASTIC
from score_sde.config.validation import validate
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.experiment.own_bound import OwnBound
from score_sde.networks import FourierFeatures, Gamma
from score_sde.networks.layers import Conv, Dense
from score_sde.objectives.variational import Categorical, gaussian_decoder
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import Learned
from score_sde.systems import Bounded
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config


def vdm_config(**changes):
    """Of tiny_config's digits, with a curve inside and one wave beside x."""
    own = {
        "system__name": "vdm", "network__dropout": 0.0, "data__uniform_dequantization": False,
        "parametrization__label": "gamma", "vdm__learned": "all", "vdm__features": 4, "vdm__fourier": (3,),
        "vdm__learning_rate": 3e-3, "sampling__times": "log_snr", "likelihood__num_images": 16,
        "likelihood__batch_size": 8,
    }  # fmt: skip
    return tiny_config(**own | changes)


get_config = vdm_config


class Told(nn.Module):
    """In the place of the U-Net: x convolved, and the level."""

    out_channels: int | None = None
    convolution: str = "native"

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None, condition: Any = None):
        h = nn.swish(Conv(8, convolution=self.convolution)(x, Dense(8)(label[:, None] / 1000)))
        return Conv(self.out_channels or x.shape[-1], convolution=self.convolution)(h)


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Told())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vdm") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Told())
        return leaves(learn(vdm_config(), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run(self, whole, tmp_path):
        again = leaves(learn(vdm_config(), without_its_end(whole[1], tmp_path / "run"), Pmap(jax.devices()[:1])))
        for mine, other in zip(whole[0], again, strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 2, in microbatches", "sharded on 8, 4 of them fsdp"])
    def test_over_devices_and_in_microbatches(self, way, whole, tmp_path):
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices()[:2])
        config = vdm_config(training__microbatches=2 if "microbatches" in way else 1)
        for mine, other in zip(whole[0], leaves(learn(config, tmp_path / "run", strategy)), strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_the_log_has_terms_ends_and_rates(self, whole):
        lines = [json.loads(line) for line in (whole[1] / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            assert line["loss"] == pytest.approx(line["recon"] + line["klz"] + line["diffusion"], rel=1e-5)
            assert line["gradient_norm/schedule"] > 0
        assert lines[-1]["gamma_0"] != -13.3 and lines[-1]["gamma_1"] != 5.0
        assert (lines[-1]["learning_rate/score"], lines[-1]["learning_rate/schedule"]) == pytest.approx((1e-3, 3e-3))

    def test_by_command(self, tmp_path, capsys):
        """Trained, sampled and evaluated; its bound is that of the bytes, by draws, with all its terms."""
        line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run")]
        more = ["--config.training.num_steps=2", "--config.evaluation.every=2", "--config.evaluation.num_images=16"]
        figures = ["--config.evaluation.num_samples=16", "--config.evaluation.features=pixels"]
        assert main([*line, *more]) == 0, capsys.readouterr().err
        assert main([*line, *more, "--mode=sample"]) == 0, capsys.readouterr().err
        assert main([*line, *more, *figures, "--mode=evaluate"]) == 0, capsys.readouterr().err
        (found,) = (tmp_path / "run" / "samples").glob("ancestral-4-seed0*/samples.npz")
        with np.load(found) as samples:
            assert samples["samples"].shape == (8, 8, 8, 1)
        assert main([*line, *more, "--mode=likelihood"]) == 0, capsys.readouterr().err
        summary = json.loads((tmp_path / "run" / "likelihood" / "summary.json").read_text())
        parts = {name: term["mean"] for name, term in summary["terms"].items()}
        assert set(parts) == {"recon", "klz", "diffusion"}
        assert summary["bits_per_dim"] == pytest.approx(sum(parts.values()) / (64 * math.log(2)), rel=1e-5)


@pytest.fixture(scope="module")
def built():
    """An experiment, and parameters whose schedule has moved far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Told())
        experiment = build(vdm_config(vdm__fourier=()))
    params = experiment.init_params()
    ends = {"b": jnp.array([-6.0]), "w": jnp.array([8.0])}
    return experiment, {**params, "schedule": {**params["schedule"], "ends": ends}}


def test_what_the_config_says_is_what_is_built():
    config = vdm_config(vdm__num_scales=8, vdm__fourier=(2, 6))
    system: Any = build(config).system
    assert system.schedule == Gamma(-13.3, 5.0, features=4) and system.num_scales == 8
    assert system.network == FourierFeatures(Told(out_channels=1), (2, 6))
    assert system.decoder == Categorical(-1.0) and system.discrete and isinstance(system, Bounded)
    assert system.parts == ("score", "schedule") and isinstance(system.sde(build(config).init_params()), Learned)
    fixed: Any = build(vdm_config(vdm__learned="none", data__centered=False)).system
    assert fixed.parts == ("score",) and fixed.sde() is fixed.sde({"score": {}}) and fixed.decoder == Categorical(0.0)


def test_real_data_have_a_density(tmp_path):
    """In nats per dimension of their own units."""
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(64, 8, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", train=x[:48], test=x[48:])
    config = vdm_config(data__name="array", data__path=str(tmp_path / "x.npz"), data__random_flip=False)
    experiment = build(config)
    system: Any = experiment.system
    assert system.decoder is gaussian_decoder and not system.discrete
    rows = np.concatenate([*OwnBound(experiment)(experiment.init_params(), experiment.data.held_out, np.arange(8))])
    np.testing.assert_allclose(rows[:, 1], rows[:, 3] / 64 + np.log(np.std(x[:48])), rtol=1e-4)


def test_the_schedule_of_the_parameters_is_the_one_that_is_sampled_under(built):
    """Grids and every solver's steps, and the likelihood by the ODE, know the parameters' own ends."""
    experiment, params = built
    sde = experiment.system.sde(params)
    np.testing.assert_allclose(sde.log_snr(experiment.times(params)[jnp.array([0, -1])]), [-2.0, 6.0], atol=0.05)
    values = [*ImageLikelihood(experiment)(params, experiment.data.held_out, np.arange(8))]
    other = [*ImageLikelihood(experiment)(experiment.init_params(), experiment.data.held_out, np.arange(8))]
    assert np.isfinite(values).all() and np.abs(values[0][:, 1] - other[0][:, 1]).min() > 1e-3


@pytest.mark.parametrize("solver", ["ancestral", "heun", "sde_adams_3", "dpm_solver_pp_2m", "rk45", "auto", "few_step"])
def test_solvers_draw_under_it(solver):
    assert solver in (*ODES, *STOCHASTIC, "rk45", "auto", "few_step")
    experiment = build(vdm_config(vdm__fourier=(), sampling__solver=solver))
    keys = example_keys(root_key(0), positions(0, 4))
    x = jax.jit(lambda params: experiment.draw(params, keys, {}).x)(experiment.init_params())
    assert x.shape == (4, 8, 8, 1) and np.isfinite(x).all()


def test_forecasts_are_of_updates_and_of_samples(tmp_path):
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run"), "--mode=forecast"]
    assert main([*line, "--config.parallel.topology=cpu"]) == 0
    found = json.loads((tmp_path / "run" / "forecast" / "cpu.json").read_text())["programs"]
    assert [program["program"] for program in found][:2] == ["training step", "sampling step"]


REFUSED = [
    ({"vdm__gamma_min": 6.0}, r"vdm\.gamma_min=6\.0 must be below vdm\.gamma_max=5\.0: published are"),
    ({"vdm__num_scales": 1}, r"vdm\.num_scales=1 is one step from noise to data"),
    (
        {"parametrization__label": "time"},
        r"label='time' is not what a network may be told .* to 'gamma' or 'log_sigma'",
    ),
    ({"network__name": "ncsnv2_64"}, r"network\.name='ncsnv2_64' has as many channels out as in"),
    ({"vdm__fourier": (40,)}, r"vdm\.fourier=\(40,\) must be powers of two from 0 to 12"),
    ({"sde__name": "ve"}, r"sde\.name='ve' has no meaning for system\.name='vdm', whose noise process is given by"),
    ({"data__uniform_dequantization": True}, r"uniform_dequantization=True has no meaning for .* data as they are"),
    ({"training__weighting": "likelihood"}, r"training\.weighting='likelihood' has no meaning for system\.name='vdm'"),
    ({"frozen__teacher": "runs/x"}, r"frozen\.teacher='runs/x' is not asked for by system\.name='vdm'"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    config = vdm_config()
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    with pytest.raises(UsageError, match=words):
        validate(config)


def test_its_label_is_its_own():
    config = tiny_config(parametrization__label="gamma")
    with pytest.raises(UsageError, match=r"label='gamma' is of vdm\.gamma_min and gamma_max, and system\.name='score'"):
        validate(config)
    assert default().vdm.gamma_min == -13.3


@pytest.mark.parametrize(
    "mode", [["import", f"--checkpoint={__file__}"], ["export", "--format=jax"]], ids=lambda m: m[0]
)
def test_files_of_networks_alone_are_refused(mode, tmp_path, capsys):
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run")]
    assert main([*line, f"--mode={mode[0]}", *mode[1:]]) == 2
    assert "and system.name='vdm' has a learned schedule beside it" in capsys.readouterr().err
