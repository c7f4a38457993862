"""Waveforms of .wav files, and their mel frames against sums written out."""

import wave

import numpy as np
import pytest

from score_sde.config import default
from score_sde.data.identity import digest
from score_sde.data.mel import Mel, frequency, mel
from score_sde.data.sources import gather, hold_out
from score_sde.data.waves import read, waves, write
from score_sde.errors import UsageError
from score_sde.experiment import objects

SMALL = Mel(rate=8000, hop=40, n_fft=256, window=160, bands=20, low=50.0)


def pcm(path, x: np.ndarray, width: int, rate: int = 8000) -> None:
    """x [L, C] in whole numbers of `width` bytes."""
    whole = (
        (x + 128).astype(np.uint8) if width == 1 else x.astype("<i4").view(np.uint8).reshape(*x.shape, 4)[..., :width]
    )
    with wave.open(str(path), "wb") as file:
        file.setparams((x.shape[1], width, rate, len(x), "NONE", ""))
        file.writeframes(np.ascontiguousarray(whole).tobytes())


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_is_read_to_the_bit_and_channels_are_averaged(width, tmp_path):
    top = 2 ** (8 * width - 1)
    x = np.random.default_rng(0).integers(-top, top, (50, 2))
    x[0], x[1] = -top, top - 1
    pcm(tmp_path / "two.wav", x, width)
    pcm(tmp_path / "one.wav", x[:, :1], width)
    np.testing.assert_array_equal(read(tmp_path / "one.wav"), (x[:, 0] / top).astype(np.float32))
    np.testing.assert_allclose(read(tmp_path / "two.wav", 10, 20), (x[10:30] / top).mean(1), atol=1e-7)


def test_what_is_written_is_read_back_to_half_a_step_of_16_bits(tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, 400)
    write(tmp_path / "x.wav", x, 8000)
    np.testing.assert_allclose(read(tmp_path / "x.wav") * 32768 / 32767, x, atol=0.51 / 32767)
    write(tmp_path / "x.wav", np.array([[np.nan, 2.0], [-3.0, 0.0]]), 8000)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert file.getnchannels() == 2
        np.testing.assert_array_equal(np.frombuffer(file.readframes(2), "<i2"), [0, 32767, -32767, 0])


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, length in (("train/a.wav", 1000), ("train/deep/b.WAV", 450), ("train/c.wav", 300), ("test/d.wav", 900)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, random.uniform(-1, 1, length), 8000)
    (tmp_path / "train" / "notes.txt").write_text("no sound")
    return tmp_path


def test_windows_follow_one_another_and_carry_their_frames(folder):
    found = waves(str(folder), 400, 8000, SMALL)
    assert found.train.shape == (3, 400) and found.held_out.shape == (2, 400)
    whole = read(folder / "train" / "a.wav")
    np.testing.assert_array_equal(gather(found.train, np.array([1, 0, 2])), [
        whole[400:800], whole[:400], read(folder / "train" / "deep" / "b.WAV")[:400]
    ])  # fmt: skip
    assert found.condition["frames"].shape == (3, 10, 20)
    np.testing.assert_array_equal(found.condition["frames"][np.array([1])][0], SMALL(whole[400:800]))
    held = hold_out(waves(str(folder / "train"), 400, 8000, SMALL), 1)
    assert (len(held.train), len(held.held_out), len(held.held_out_condition["frames"])) == (2, 1, 1)


def test_what_frames_are_known_by_is_the_waveforms(folder):
    """Their last digits may differ between versions of numpy."""
    one, other = (digest(waves(str(folder), 400, 8000, frames)) for frames in (SMALL, Mel(8000, 40, 256, 100, 20)))
    assert one == other and one["condition"]["frames"] == one["train"]


def test_what_is_no_sound_is_refused_with_the_remedy(folder, tmp_path):
    (tmp_path / "bad").mkdir()
    for words, path, options in (
        ("does not exist", "nowhere", (400, 0)),
        ("holds no .wav file", "bad", (400, 0)),
        ("8000 samples per second and data.rate=16000", "train", (400, 16000)),
        ("data.length=5000 is longer than every one of 3 files", "train", (5000, 0)),
    ):
        with pytest.raises(UsageError, match=words):
            waves(str(folder / path), *options)
    (tmp_path / "bad" / "x.wav").write_bytes(b"RIFF....WAVEfmt ")
    with pytest.raises(UsageError, match="write it as PCM of 8, 16, 24 or 32 bits"):
        waves(str(tmp_path / "bad"), 400, 0)


def test_frames_are_the_sums_that_define_them():
    x = np.random.default_rng(0).normal(size=400)
    found = SMALL(x)
    assert found.shape == (10, 20) and found.dtype == np.float32
    j, n = 6, np.arange(256)
    window = np.where((n >= 48) & (n < 208), np.sin(np.pi * (n - 48) / 160) ** 2, 0)
    part = x[j * 40 + 20 - 128 : j * 40 + 20 + 128] * window
    k = np.arange(129)
    magnitude = 2 * np.abs(np.exp(-2j * np.pi * np.outer(k, n) / 256) @ part) / window.sum()
    edges = [
        700 * (10 ** (m / 2595) - 1)
        for m in np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 4000 / 700), 22)
    ]
    own = []
    for low, middle, high in zip(edges, edges[1:], edges[2:]):
        f = k * 8000 / 256
        triangle = np.where(f < middle, (f - low) / (middle - low), (high - f) / (high - middle))
        own.append(1 + np.log10(max(np.maximum(triangle, 0) @ magnitude, 1e-5)) / 5)
    np.testing.assert_allclose(found[j], own, atol=2e-5)


def test_a_sine_is_1_in_its_band_silence_is_0_and_the_scale_has_its_inverse():
    band = 12
    middle = frequency(np.linspace(mel(50.0), mel(4000.0), 22))[band + 1]
    found = SMALL(np.sin(2 * np.pi * middle / 8000 * np.arange(800)))[5:-5]
    assert (found.argmax(1) == band).all() and abs(found[:, band].mean() - 1) < 0.15
    np.testing.assert_allclose(SMALL(np.zeros(400)), 0, atol=1e-6)
    np.testing.assert_allclose(mel(frequency(mel(440.0))), mel(440.0))
    assert abs(mel(1000.0) - 1000) < 0.1  # by which the scale was set


def test_filter_banks_that_cannot_be_are_refused():
    for words, changes in (
        ("give an even number", {"n_fft": 255}),
        ("not below the window", {"window": 300}),
        ("do not lie between", {"high": 5000.0}),
        ("give longer waveforms", {}),
    ):
        with pytest.raises(UsageError, match=words):
            Mel(**{"rate": 8000, "hop": 40, "n_fft": 256, "window": 160, "bands": 20, **changes})(np.zeros(100))


def test_the_configs_defaults_are_a_filter_bank_at_a_usual_rate():
    config = default().data
    config.rate = 22050
    assert (objects.mel(config).filters.max(0) > 0).all()
