"""Runs of autoencoders: by command, killed and resumed, over devices, in microbatches; what is refused."""

import json
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.config.validation import validate
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.networks import MLP, Decoder, Encoder
from score_sde.storage.checkpoint import Checkpoints
from score_sde.systems import VAE, Hierarchical
from tests.systems import autoencoding
from tests.systems.autoencoding import hierarchical_config, vae_config
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config, trained_run

CONFIGS = {"vae": vae_config, "hierarchical": hierarchical_config}


@pytest.fixture(scope="module", params=CONFIGS)
def whole(request, tmp_path_factory):
    make = CONFIGS[request.param]
    folder = tmp_path_factory.mktemp("coded") / "whole"
    return make, leaves(learn(make(), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run(self, whole, tmp_path):
        make, expected, folder = whole
        again = learn(make(), without_its_end(folder, tmp_path / "run"), Pmap(jax.devices()[:1]))
        for mine, other in zip(expected, leaves(again), strict=True):
            np.testing.assert_array_equal(mine, other)

    @pytest.mark.parametrize("way", ["pmap on 8, in microbatches", "sharded on 8, 4 of them fsdp"])
    def test_over_devices_and_in_microbatches(self, way, whole, tmp_path):
        make, expected, _ = whole
        strategy = Sharded(4, jax.devices()) if way.startswith("sharded") else Pmap(jax.devices())
        config = make(training__microbatches=2 if "microbatches" in way else 1)
        for mine, other in zip(expected, leaves(learn(config, tmp_path / "run", strategy)), strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_the_log_has_the_terms(self, whole):
        make, _, folder = whole
        kl = ["kl"] if make is vae_config else ["kl_1", "kl_2"]
        for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
            assert line["loss"] == pytest.approx(line["reconstruction"] + sum(line[name] for name in kl), rel=1e-5)

    def test_by_command(self, tmp_path, capsys):
        """Trained, sampled with and without noise, evaluated and forecast."""
        line = ["launch.py", "--config", autoencoding.__file__, "--workdir", str(tmp_path / "run")]
        more = ["--config.training.num_steps=2", "--config.evaluation.every=2", "--config.evaluation.num_images=16"]
        figures = ["--config.evaluation.num_samples=16", "--config.evaluation.features=pixels"]
        assert main([*line, *more]) == 0, capsys.readouterr().err
        assert main([*line, *more, "--mode=sample"]) == 0, capsys.readouterr().err
        noiseless = ["--mode=sample", "--config.sampling.decoder_noise=False"]
        assert main([*line, *more, *noiseless]) == 2
        assert "add --overwrite" in capsys.readouterr().err
        assert main([*line, *more, *noiseless, "--overwrite"]) == 0, capsys.readouterr().err
        assert main([*line, *more, *figures, "--mode=evaluate"]) == 0, capsys.readouterr().err
        forecast = ["--mode=forecast", "--config.parallel.topology=cpu"]
        assert main([*line, *more, *forecast]) == 0, capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "run", vae_config())


@pytest.mark.parametrize("name", ["reconstruct", "interpolate"])
def test_examples_of_a_file_are_reconstructed_and_met_by_command(name, trained, tmp_path, capsys):
    """What comes out is the system's own answer, in bytes; of reconstructions the latents are kept."""
    experiment = build(vae_config())
    x = np.asarray(experiment.data.held_out[np.arange(8)])
    np.savez(tmp_path / "x.npz", x=x)
    each = 1 if name == "reconstruct" else 2
    line = ["launch.py", "--config", autoencoding.__file__, "--workdir", str(trained.path), "--mode=sample"]
    line += [f"--config.editing.{field}" for field in (f"name={name}", f"path={tmp_path / 'x.npz'}", f"samples={each}")]
    assert main([*line, "--config.sampling.num_samples=8"]) == 0, capsys.readouterr().err
    (place,) = (trained.path / "samples").glob(f"*{name}*/samples.npz")
    with closing(Checkpoints(trained.checkpoints)) as checkpoints:
        params = experiment.weights(experiment.restore(checkpoints)[0])
    system, a, b = experiment.system, *experiment.kind.units
    assert isinstance(system, VAE)
    shown = jnp.asarray((x - a) / b, jnp.float32)
    with np.load(place) as found:
        if name == "reconstruct":
            expected = system.reconstruct(params, shown)
            np.testing.assert_allclose(found["latent"], system.encode(params, shown)[0], rtol=1e-4, atol=1e-5)
        else:  # the two ends of four pairs
            expected = system.reconstruct(params, shown)
            np.testing.assert_array_equal(found["weight"], [0, 1] * 4)
        assert np.abs(found["samples"].astype(int) - np.asarray(experiment.kind.decode(expected))).max() <= 1


def test_what_the_config_says_is_what_is_built():
    config = vae_config(vae__encoder_variance="scalar", vae__warmup=7, vae__warmup_after=3, vae__free_bits=0.25)
    system = build(config).system
    assert isinstance(system, VAE)
    assert (system.encoder, system.decoder) == (MLP((3,), (16,), "scalar"), MLP((8, 8, 1), (16,), "scalar"))
    assert (system.warmup, system.warmup_after, system.free_bits) == (7, 3, 0.25)
    assert system.noisy()
    config.sampling.decoder_noise = False
    config.network.update(name="convolutional", nf=8, ch_mult=(1, 2), num_res_blocks=2)
    config.vae.update(latent=(4, 4, 2), decoder_variance="diagonal")
    system = build(config).system
    assert isinstance(system, VAE) and not system.noisy()
    assert system.encoder == Encoder((4, 4, 2), 8, (1, 2), 2, "scalar")
    assert system.decoder == Decoder((8, 8, 1), 8, (1, 2), 2, "diagonal")
    config = hierarchical_config(hierarchical__balanced=True, vae__warmup=5, vae__decoder_variance="constant_diagonal")
    system = build(config).system
    assert isinstance(system, Hierarchical) and system.balanced and system.latents == ((4,), (2,))
    assert system.encoders == (MLP((4,), (16,)), MLP((2,), (16,)))
    assert system.decoders == (MLP((8, 8, 1), (16,), "constant_diagonal"), MLP((4,), (16,)))


REFUSED = [
    (
        {"editing__name": "edit", "editing__path": "x.npz"},
        r"'interpolate' and 'reconstruct' are a vae's, and",
    ),
    (
        {"editing__name": "reconstruct", "editing__path": "x.npz", "editing__time": 0.5},
        r"editing\.time=0\.5 has no effect on system\.name='vae': leave it at 0\.0",
    ),
    (
        {"editing__name": "interpolate", "editing__path": "x.npz"},
        r"editing\.samples=1 leaves nothing between the two of a pair",
    ),
    ({"sampling__num_steps": 2}, r"sampling\.num_steps=2 is not the number of evaluations of a decoder.* set it to 1"),
    ({"sampling__solver": "heun"}, r"sampling\.solver='heun' asks for a score, which system\.name='vae' has"),
    ({"network__name": "ddpm"}, r"network\.name='ddpm' has no encoder and decoder, as system\.name='vae' asks"),
    ({"system__name": "score"}, r"network\.name='mlp' is an encoder and a decoder, and system\.name='score' trains"),
    ({"vae__latent": (4, 4)}, r"vae\.latent=\(4, 4\) must be \(d,\), or \(height, width, channels\)"),
    ({"vae__latent": (4, 4, 1)}, r"vae\.latent=\(4, 4, 1\) has places, and network\.name='mlp' none"),
    ({"network__name": "convolutional", "vae__latent": (4, 4, 1)}, r"has not the 8x8 places of the last of network"),
    ({"network__hidden": (0,)}, r"network\.hidden=\(0,\) must be widths of 1 or more"),
    ({"hierarchical__balanced": True}, r"hierarchical\.balanced=True have no effect on vae\.warmup=0"),
    ({"sde__name": "ve"}, r"sde\.name='ve' has no meaning for system\.name='vae', an encoder and a decoder of Gauss"),
    ({"training__objective": "sliced"}, r"training\.objective='sliced' has no meaning for system\.name='vae'"),
    ({"data__condition": ("label",)}, r"data\.condition contains 'label', which network\.name='mlp' does not"),
    ({"system__name": "hierarchical", "network__name": "convolutional"}, r"'convolutional' is for one level of laten"),
    ({"system__name": "hierarchical", "hierarchical__latents": ()}, r"hierarchical\.latents=\(\) must name one size"),
    ({"system__name": "hierarchical"}, r"vae\.latent=\(3,\) has no meaning for system\.name='hierarchical', whose"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_it_has_not_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        validate(vae_config(**changes))


def test_a_score_reconstructs_nothing():
    with pytest.raises(UsageError, match=r"'reconstruct' asks for an encoder, which system\.name='score' has not"):
        validate(tiny_config(editing__name="reconstruct", editing__path="x.npz"))


def test_bytes_without_noise_have_no_density():
    with pytest.raises(UsageError, match=r"uniform_dequantization=False leaves bytes as they are, which have no dens"):
        build(vae_config(data__uniform_dequantization=False))


@pytest.mark.parametrize(
    "mode", [["report"], ["import", f"--checkpoint={__file__}"], ["export", "--format=jax"]], ids=lambda m: m[0]
)
def test_modes_of_scores_are_refused(mode, tmp_path, capsys):
    line = ["launch.py", "--config", autoencoding.__file__, "--workdir", str(tmp_path / "run")]
    assert main([*line, f"--mode={mode[0]}", *mode[1:]]) == 2
    said = "and system.name='vae' has none: its network makes Gaussians of latents and examples"
    assert said in capsys.readouterr().err
