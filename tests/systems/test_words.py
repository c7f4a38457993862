"""Runs that read captions: killed and resumed, over devices, in microbatches, by command, of embeddings given."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.experiment import build, forecasting, objects
from score_sde.networks import SpatialTransformer
from score_sde.networks.text import Text
from score_sde.typing import expand
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config
from tests.training.small import Shallow


class Reading(nn.Module):
    """A shallow network whose pixels ask a text."""

    text: Text
    convolution: str = "native"

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        rows = self.text.encode(condition or {}, x.dtype)
        h = nn.Dense(8)(Shallow(self.convolution)(x, label, sigma, dropout_keys))
        return x + nn.Dense(x.shape[-1])(SpatialTransformer(2, name="asking")(h, *rows))


def get_config():
    return config()


def config(**changes):
    objects.NETWORKS["ncsnpp"] = lambda c, s: Reading(Text((8,), len(s.text.words), 8, 1, 2))
    own: dict[str, Any] = {"data__name": "digit_pairs", "data__height": 8, "data__width": 16}
    own |= {"data__random_flip": False, "data__condition": ("caption",), "network__text_resolutions": (8,)}
    own |= {"network__text_width": 8, "network__label_dropout": 0.2, "sampling__num_samples": 4}
    return tiny_config(**own | {"sampling__batch_size": 4, "sampling__num_steps": 2, "checkpoint__every": 3} | changes)


@pytest.fixture(autouse=True)
def own_networks_only(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", None)
        return leaves(learn(config(), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run_though_the_words_are_read_anew(self, whole, tmp_path):
        again = leaves(learn(config(), without_its_end(whole[1], tmp_path / "run"), Pmap(jax.devices()[:1])))
        for mine, other in zip(whole[0], again, strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 2, in microbatches", "sharded on 8, 4 of them fsdp"])
    def test_over_devices_and_in_microbatches(self, way, whole, tmp_path):
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices()[:2])
        own = config(training__microbatches=2 if "microbatches" in way else 1)
        for mine, other in zip(whole[0], leaves(learn(own, tmp_path / "run", strategy)), strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_samples_by_command(self, whole, capsys):
        line = ["launch.py", "--config", __file__, "--workdir", str(whole[1]), "--mode", "sample"]
        asked = "--config.sampling.caption=three left of nine"
        assert main([*line, asked, "--config.guidance.scale=2"]) == 0, capsys.readouterr().err
        (folder,) = (whole[1] / "samples").glob("*-caption_three_left_of_nine-guided2")
        with np.load(folder / "samples.npz") as arrays:
            assert arrays["caption"].tolist() == ["three left of nine"] * 4
            assert arrays["samples"].shape == (4, 8, 16, 1) and set(arrays["evaluations"].tolist()) == {6}
        assert main([*line, "--config.sampling.caption=tree left of nine"]) == 2
        assert (
            "the word 'tree', which no caption of the training data has: did you mean three" in capsys.readouterr().err
        )
        words = json.loads((whole[1] / "config.json").read_text())["data"]["text"]["words"]
        assert len(words) == 12 and words == sorted(words)

    def test_the_step_and_the_samples_are_those_that_are_forecast(self):
        built = dataclasses.replace(build(config()), strategy=Sharded(1, jax.devices()[:1]))
        for program in ("training step", "sampling step"):
            lowered = forecasting.PROGRAMS[program](built)
            assert "s32[1,16,4]" in lowered.as_text("hlo") or program != "training step"

    def test_embeddings_of_an_encoder_of_ones_own(self, tmp_path, capsys):
        random = np.random.default_rng(0)
        rows = random.normal(size=(24, 3, 5)).astype(np.float32)
        mask = np.arange(3) <= random.integers(0, 3, 24)[:, None]
        images = random.integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)
        np.savez(tmp_path / "data.npz", train=images, embeddings=rows, mask=mask)
        np.savez(tmp_path / "asked.npz", embeddings=rows[:2], mask=mask[:2])
        data = {"data__name": "array", "data__path": str(tmp_path / "data.npz"), "data__condition": ("embeddings",)}
        asked = {"sampling__caption": str(tmp_path / "asked.npz"), "data__height": 0, "data__width": 0}
        learn(config(**data, **asked, training__num_steps=2), tmp_path / "run")
        line = ["launch.py", "--config", __file__, "--workdir", str(tmp_path / "run"), "--mode", "sample"]
        changes = data | asked | {"training__num_steps": 2}
        more = [f"--config.{name.replace('__', '.')}={value}" for name, value in changes.items()]
        assert main([*line, *more]) == 0, capsys.readouterr().err
        (found,) = (tmp_path / "run" / "samples").glob("*-caption_asked_*/samples.npz")
        with np.load(found) as arrays:
            assert set(arrays) == {"samples", "evaluations", "finite", "settings"}


class OfGaussian(nn.Module):
    """The noise of N(m, 0.04) data under VP, sigma (x - alpha m) / (0.04 alpha^2 + sigma^2), m a number of the text."""

    text: Text

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        rows, _ = self.text.encode(condition or {}, x.dtype)
        m, sigma = nn.Dense(1)(rows[:, 0])[..., None, None], expand(sigma, x)
        alpha = (1 - sigma**2) ** 0.5
        return sigma * (x - alpha * m) / (0.04 * alpha**2 + sigma**2)


@pytest.mark.oracles
def test_the_score_of_gaussian_data_whose_mean_is_linear_in_a_word(tmp_path):
    """x given "very k" is N(k / 2 - 1, 0.04): every word has the exact score, the null token the mean of all.

    Of parameters averaged over 200 updates: at this rate those of single updates have means off by 0.07 to 0.11.
    """
    random, words = np.random.default_rng(0), ("zero", "one", "two", "three", "four")
    number = np.arange(5000) % 5
    x = (number / 2 - 1 + 0.2 * random.normal(size=5000)).astype(np.float32)[:, None, None, None]
    np.savez(tmp_path / "data.npz", train=x, caption=np.array([f"very {words[k]}" for k in number]))
    changes = {"data__name": "array", "data__path": str(tmp_path / "data.npz"), "data__height": 0, "data__width": 0}
    changes |= {"data__mean": (0.0,), "data__std": (1.0,), "data__uniform_dequantization": False}
    changes |= {"network__text_resolutions": (1,), "training__num_steps": 1500, "training__batch_size": 256}
    own = config(**changes, checkpoint__every=1500, optimizer__learning_rate=3e-3, ema__decay=0.995)
    own.network.attn_resolutions = ()
    objects.NETWORKS["ncsnpp"] = lambda c, s: OfGaussian(Text((1,), 1 + len(words), 16, 2, 2))
    experiment: Any = build(own)
    state = learn(own, tmp_path / "run")
    alpha, sigma = (getattr(experiment.sde, name)(jnp.asarray([0.1, 0.4, 0.8])) for name in ("alpha", "sigma"))
    at = jnp.asarray([-0.7, 0.1, 0.9])[:, None, None, None]
    for caption, mean in {**{f"very {word}": k / 2 - 1 for k, word in enumerate(words)}, "": 0.0}.items():
        score = experiment.score(state, "", experiment.spec.text.encode([caption] * 3))
        found = np.asarray(score(at, jnp.asarray([0.1, 0.4, 0.8])))[:, 0, 0, 0]
        means = mean - np.asarray(found * (0.04 * alpha**2 + sigma**2) + at[:, 0, 0, 0]) / np.asarray(alpha)
        np.testing.assert_allclose(means, 0, atol=0.03)
