"""Waveforms of .wav files told their frames: trained, resumed, sampled, likelihoods, by command.

The network is WaveGrad's of a few channels: what is tested is the way, not what it learns.
"""

import csv
import json
import pathlib
import wave

import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.data.waves import read, write

CONFIG = """
from tests.tiny import tiny_config

def get_config():
    config = tiny_config(training__num_steps=4, checkpoint__every=4)
    config.sde.update(discrete=True, beta_max=4.0)
    config.data.update(name="waves", path="sounds", length=32, rate=8000, condition=("frames",))
    config.data.update(hop=4, n_fft=32, window=16, mels=6, mean=(0.0,), std=(1.0,), random_flip=False)
    config.data.uniform_dequantization = False
    config.network.update(name="wavegrad", factors=(2, 2), up_widths=(4, 4), down_widths=(4, 4), frames_width=4)
    config.network.long_blocks = 1
    config.parametrization.label = "alpha"
    config.training.update(objective="absolute", times="between_levels", stratified=True)
    config.sampling.update(num_steps=2, num_samples=6, batch_size=8, condition="one.wav", times="log_snr")
    config.likelihood.update(num_images=3, batch_size=8, bound_samples=0, solver="rk45", rtol=0.1, atol=0.1, t_min=1e-2)
    return config
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run, resumed once; the folder it is in, and how to launch there."""
    folder = tmp_path_factory.mktemp("waves")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        random = np.random.default_rng(0)
        for name, length in (("train/a", 700), ("train/b", 100), ("test/c", 128)):
            pathlib.Path("sounds", name).parent.mkdir(parents=True, exist_ok=True)
            write(pathlib.Path("sounds", f"{name}.wav"), random.uniform(-0.5, 0.5, length), 8000)
        write(pathlib.Path("one.wav"), random.uniform(-0.5, 0.5, 200), 8000)
        pathlib.Path("own.py").write_text(CONFIG)
        launch = lambda *arguments: main(["launch.py", "--config=own.py", *arguments])
        assert launch() == 0
        assert launch("--config.training.num_steps=6") == 0
        yield folder / "runs" / "own", launch


def samples_of(run: pathlib.Path) -> tuple[pathlib.Path, np.ndarray]:
    """The newest folder of samples."""
    newest = max(
        (path for path in (run / "samples").iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns
    )
    with np.load(newest / "samples.npz") as found:
        return newest, found["samples"]


def test_samples_need_the_frames_alone_and_are_sounds(run, capsys):
    place, launch = run
    record = json.loads((place / "config.json").read_text())["data"]
    assert (record["shape"], record["kind"], record["frames"]) == ([32], "real", [8, 6])
    pathlib.Path("sounds").rename("elsewhere")
    assert launch("--mode=sample") == 0
    pathlib.Path("elsewhere").rename("sounds")
    assert "000.wav to 005.wav sound" in capsys.readouterr().out
    folder, x = samples_of(place)
    assert x.shape == (6, 32) and x.dtype == np.float32 and "frames_one_" in folder.name
    np.testing.assert_allclose(read(folder / "005.wav"), np.clip(x[5], -1, 1), atol=1e-4)
    with wave.open(str(folder / "000.wav")) as file:
        assert file.getframerate() == 8000
    (folder / "003.wav").write_bytes(b"")
    assert launch("--mode=sample") == 0  # what is damaged is made again
    np.testing.assert_allclose(read(folder / "003.wav"), np.clip(x[3], -1, 1), atol=1e-4)


def test_longer_signals_are_drawn_by_windows_and_depend_on_their_own_number_alone(run):
    place, launch = run
    longer = ("--mode=sample", "--config.sampling.length=64", "--config.sampling.num_steps=3")
    assert launch(*longer) == 0
    _, x = samples_of(place)
    assert x.shape == (6, 64)
    assert launch(*longer, "--config.sampling.batch_size=2", "--overwrite") == 0
    np.testing.assert_allclose(samples_of(place)[1], x, atol=1e-4)


def test_six_betas_by_the_reference_are_within_its_clamp(run):
    place, launch = run
    betas = (
        "--config.sampling.times=betas",
        "--config.sampling.betas=(1e-4,1e-2,0.5)",
        "--config.sampling.num_steps=2",
    )
    assert launch("--mode=sample", *betas, "--overwrite") == 0
    _, free = samples_of(place)
    assert launch("--mode=sample", *betas, "--config.sampling.reference=True") == 0
    _, clamped = samples_of(place)
    assert np.abs(clamped).max() <= 1 < np.abs(free).max()


def test_likelihoods_are_of_each_with_its_own_frames(run):
    place, launch = run
    assert launch("--mode=likelihood") == 0
    rows = list(csv.DictReader((place / "likelihood" / "per_image.csv").read_text().splitlines()))
    assert len(rows) == 3 and np.isfinite([float(row["nats_per_dim"]) for row in rows]).all()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("sampling.condition=", "sampling.condition is empty, and nothing here makes frames"),
        ("sampling.condition=none.wav", "is no file: name a .wav file"),
        ("sampling.length=40", "give a multiple of 16, 32 or more"),
        ("sampling.length=2048", "makes 50 frames, fewer than the 512 of a sample"),
    ],
)
def test_what_has_no_frames_or_windows_is_refused(run, argument, words, capsys):
    assert run[1]("--mode=sample", f"--config.{argument}") == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1, said
