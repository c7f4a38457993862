"""Damped sinusoids, Gaussian given their frequency: the exact noise as recorded, and a network trained to it."""

import numpy as np
import pytest

from benchmarks import sinusoids
from score_sde.cli.main import main
from tests.golden_files import load, relative_error


def recorded(name: str) -> np.ndarray:
    return load("oracles", "systems")[f"audio__{name}"]


def test_the_exact_noise_is_the_oracles():
    xt, abar = recorded("xt")[None], float(recorded("alpha_bar"))
    assert (recorded("decay"), recorded("noise")) == (sinusoids.DECAY, sinusoids.NOISE)
    np.testing.assert_array_equal(sinusoids.FREQUENCIES, recorded("freqs"))
    own = sinusoids.exact_noise(np.repeat(xt, 3, axis=0), abar, np.arange(3))
    assert relative_error(own, recorded("eps_conditional")) < 1e-12
    assert relative_error(sinusoids.mixed_noise(xt, abar)[0], recorded("eps_unconditional")) < 1e-12


def test_draws_have_the_laws_covariance_and_frames_say_the_frequency():
    x = sinusoids.waveforms(60_000, 3)
    for f, exact in enumerate(sinusoids.covariances()):
        found = x[f::3].T @ x[f::3] / 20_000
        assert np.abs(found - exact).max() < 5 * np.sqrt(2 / 20_000)
    np.testing.assert_array_equal(sinusoids.frames(4)[:, 2].argmax(1), [0, 1, 2, 0])


def test_few_steps_are_as_far_from_the_data_as_in_closed_form():
    """The distance of a law to itself is 0, and of twice its size 1."""
    assert sinusoids.relative(sinusoids.covariances()) < 1e-6
    np.testing.assert_allclose(sinusoids.relative(4 * sinusoids.covariances()), 1, rtol=1e-6)


@pytest.mark.oracles
def test_a_trained_network_has_the_exact_noise_and_draws_the_frequency_it_is_asked_for(tmp_path, monkeypatch, capsys):
    """Minutes on two CPU cores: the figures of configs/sinusoids.py."""
    config = str(sinusoids.pathlib.Path(__file__).parents[2] / "configs" / "sinusoids.py")
    monkeypatch.chdir(tmp_path)
    assert sinusoids.main(["", "--write", "runs/sinusoids.npz"]) == 0
    assert main(["launch.py", f"--config={config}"]) == 0
    found = sinusoids.errors(sinusoids.pathlib.Path("runs/sinusoids"))
    assert max(found.values()) < 0.1, found
    assert main(["launch.py", f"--config={config}", "--mode=sample", "--config.sampling.num_samples=300"]) == 0
    (file,) = sinusoids.pathlib.Path("runs/sinusoids/samples").glob("*/samples.npz")
    with np.load(file) as arrays:
        x = arrays["samples"]
    power = np.abs(np.fft.rfft(x, 200, axis=1)) ** 2
    for f, asked in enumerate(sinusoids.FREQUENCIES):
        assert abs(power[f::3].mean(0).argmax() / 200 - asked) < 0.01
