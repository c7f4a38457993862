"""Runs of a denoising diffusion GAN: by command, killed and resumed, over devices, in microbatches; what is refused."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.config.validation import validate
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.loop.loop import train
from score_sde.networks import Critic, Generator
from score_sde.networks.layers import Conv, Dense
from score_sde.storage.workdir import Workdir
from tests.systems import game, plane
from tests.systems.learning import leaves, without_its_end
from tests.tiny import tiny_config


def gan_config(**changes):
    """Of tiny_config's digits; the penalty in every third update."""
    own = {"system__name": "adversarial", "network__dropout": 0.0, "sampling__solver": "few_step"}
    config = tiny_config(**own | changes)
    config.adversarial.update(latent=8, latent_width=8, latent_layers=0, critic_nf=4, critic_ch_mult=(1, 2))
    config.adversarial.update(critic_embedding=4, r1=0.5, r1_every=3, critic_learning_rate=3e-3)
    return config


get_config = gan_config


class Styled(nn.Module):
    """In the place of the U-Net."""

    convolution: str = "native"

    @nn.compact
    def __call__(self, x, label, sigma=None, dropout_keys=None, condition: Any = None):
        told = jnp.concatenate([condition["style"], label[:, None]], -1)
        h = nn.swish(Conv(8, convolution=self.convolution)(x, Dense(8)(told)))
        return Conv(x.shape[-1], convolution=self.convolution)(h)


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Styled())


def learn(config, folder, strategy=None):
    workdir = Workdir(folder)
    experiment = plane.players(build(config, workdir.record()))
    experiment = dataclasses.replace(experiment, strategy=strategy) if strategy else experiment
    return train(experiment, workdir, generator=game.Slow(), show=False)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Styled())
        return leaves(learn(gan_config(), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run(self, whole, tmp_path):
        again = leaves(learn(gan_config(), without_its_end(whole[1], tmp_path / "run"), Pmap(jax.devices()[:1])))
        for mine, other in zip(whole[0], again, strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 2, in microbatches", "sharded on 8, 4 of them fsdp"])
    def test_over_devices_and_in_microbatches(self, way, whole, tmp_path):
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices()[:2])
        config = gan_config(training__microbatches=2 if "microbatches" in way else 1)
        for mine, other in zip(whole[0], leaves(learn(config, tmp_path / "run", strategy)), strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_the_log_has_both_players_and_their_rates(self, whole):
        lines = [json.loads(line) for line in (whole[1] / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            both = line["critic"] + line["generator"] + line["r1"]
            assert line["loss"] == pytest.approx(both, rel=1e-5) and 0 <= line["accuracy"] <= 1 and line["r1"] > 0
        assert lines[-1]["learning_rate/generator"] == pytest.approx(1e-3)
        assert lines[-1]["learning_rate/critic"] == pytest.approx(3e-3)

    def test_by_command(self, tmp_path, capsys):
        """Trained, sampled and evaluated, of the config's own networks."""
        line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run")]
        more = ["--config.training.num_steps=2", "--config.evaluation.every=2", "--config.evaluation.num_images=16"]
        figures = ["--config.evaluation.num_samples=16", "--config.evaluation.features=pixels"]
        assert main([*line, *more]) == 0, capsys.readouterr().err
        assert main([*line, *more, "--mode=sample"]) == 0, capsys.readouterr().err
        assert main([*line, *more, *figures, "--mode=evaluate"]) == 0, capsys.readouterr().err
        (found,) = (tmp_path / "run" / "samples").glob("few_step-4-seed0*/samples.npz")
        with np.load(found) as samples:
            assert samples["samples"].shape == (8, 8, 8, 1)


def test_forecasts_are_of_updates_and_of_samples(tmp_path):
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run"), "--mode=forecast"]
    assert main([*line, "--config.parallel.topology=cpu"]) == 0
    found = json.loads((tmp_path / "run" / "forecast" / "cpu.json").read_text())["programs"]
    assert [program["program"] for program in found] == ["training step", "sampling step"]
    assert 0 < found[1]["flops"] < found[0]["flops"]


def test_what_the_config_says_is_what_is_built():
    config = gan_config(sampling__num_steps=3, training__remat="dots")
    config.adversarial.update(steps=3, r1_rescaled=True, latent_layers=2, critic_beta1=0.25)
    built = build(config)
    system = built.system
    assert (system.generator, system.critic) == (Generator(Styled(), 8, 2), Critic(4, (1, 2), 4))  # pyright: ignore
    assert (system.latent, system.penalty, system.penalty_every, system.rescaled) == (8, 0.5, 3, True)  # pyright: ignore
    assert system.sde().num_scales == 3  # pyright: ignore[reportAttributeAccessIssue]
    one, other = built.optimizers["generator"], built.optimizers["critic"]
    assert (one.beta1, one.learning_rate) == (0.9, 1e-3)
    assert other == dataclasses.replace(one, beta1=0.25, beta2=0.9, learning_rate=3e-3)


REFUSED = [
    ({"sampling__num_steps": 2}, r"sampling\.num_steps=2 is not adversarial\.steps=4, .* set it to 4"),
    ({"adversarial__steps": 1}, r"adversarial\.steps=1 is no chain: give it 2 to 8"),
    ({"sampling__solver": "heun"}, r"sampling\.solver='heun' asks for a score, which system\.name='adversarial' has"),
    ({"sde__name": "ve"}, r"sde\.name='ve' with sde\.discrete=False is no SDE"),
    ({"network__name": "ddpm"}, r"network\.name='ddpm' takes no latent"),
    ({"network__embedding_type": "fourier"}, r"network\.embedding_type='fourier' asks for a noise level above 0"),
    ({"data__centered": False}, r"adversarial\.tanh=True is for data in \[-1, 1\], and data\.centered=False"),
    (
        {"adversarial__critic_ch_mult": (1, 1, 1, 1, 1)},
        r"data\.image_size=8 cannot be halved 4 times, as the 5 entries",
    ),
    ({"adversarial__critic_ch_mult": ()}, r"adversarial\.critic_ch_mult=\(\) must name one level or more"),
    ({"parametrization__prediction": "velocity"}, r"parametrization\.prediction='velocity' has no meaning for"),
    ({"guidance__threshold": "static"}, r"takes the network as it is, without guidance"),
    ({"teacher__scale": 2.0}, r"teacher\.scale=2\.0 has no effect on system\.name='adversarial'"),
    ({"frozen__teacher": "runs/x"}, r"frozen\.teacher='runs/x' is not asked for by system\.name='adversarial'"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    config = gan_config()
    for name, value in changes.items():
        section, field = name.split("__")
        config[section][field] = value
    with pytest.raises(UsageError, match=words):
        validate(config)


def test_real_data_have_no_tanh(tmp_path):
    np.savez(tmp_path / "x.npz", train=np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32))
    config = gan_config(data__name="array", data__path=str(tmp_path / "x.npz"), data__uniform_dequantization=False)
    with pytest.raises(UsageError, match=r"adversarial\.tanh=True is for data in \[-1, 1\], and these are real"):
        build(config)


@pytest.mark.parametrize(
    "mode",
    [["likelihood"], ["report"], ["import", f"--checkpoint={__file__}"], ["export", "--format=jax"]],
    ids=lambda m: m[0],
)
def test_modes_of_scores_are_refused(mode, tmp_path, capsys):
    line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run")]
    assert main([*line, f"--mode={mode[0]}", *mode[1:]]) == 2
    assert "and system.name='adversarial' has none" in capsys.readouterr().err
