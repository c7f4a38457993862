"""Fields of numbers, pictures that are not square and other arrays: trained, resumed, sampled, likelihoods, by command.

The network is one convolution: what is tested is the way, not what it learns.
"""

import csv
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks.field import fields, nats_per_dimension, spectrum
from score_sde.cli.main import main
from score_sde.data.kinds import Real
from score_sde.data.spec import Spec
from score_sde.experiment import build, objects
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.sde.analytic import gaussian
from tests.tiny import tiny_config, with_network
from tests.training.small import OneConvolution

CONFIG = """
from tests.tiny import tiny_config

def get_config():
    config = tiny_config(training__num_steps=4, checkpoint__every=4)
    config.network.update(nf=8, ch_mult=(1, 2), attn_resolutions=(8,), dropout=0.0)
    config.data.update({data})
    config.sampling.update(num_steps=2, num_samples=6, batch_size=8)
    config.evaluation.final_samples = 6
    config.likelihood.update(num_images=3, batch_size=8, bound_samples=2, rtol=0.1, atol=0.1, t_min=1e-2)
    return config
"""


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: OneConvolution())
        yield


@pytest.fixture
def launch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(data: str, *arguments: str) -> int:
        (tmp_path / "own.py").write_text(CONFIG.replace("{data}", data))
        return main(["launch.py", "--config=own.py", *arguments])

    return run


def pictures(folder, height: int, width: int) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 4)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{i}.png")


def arrays(file, shape, dtype="float32") -> None:
    x = (5 + 3 * np.random.default_rng(0).normal(size=(24, *shape))).astype(dtype)
    np.savez(file, train=x[:20], test=x[20:])


ARRAY = 'name="array", path="own.npz", uniform_dequantization=False'
REAL = ARRAY + ", random_flip=False"
CASES = {  # the `data` section, what makes the data, the shape of one example, dtype of samples, unit
    "fields of 8x64": (REAL, lambda: arrays("own.npz", (8, 64)), (8, 64), "float32", "nats"),
    "pictures of 24x16": (
        'name="folder", path="own", height=24, width=16, num_channels=3',
        lambda: pictures(pathlib.Path("own"), 48, 40), (24, 16, 3), "uint8", "bits",
    ),
    "grey arrays without an axis": (
        'name="array", path="own.npz", image_size=16',
        lambda: arrays("own.npz", (16, 16), "uint8"), (16, 16, 1), "uint8", "bits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_train_resume_sample_likelihood(case, launch, tmp_path, capsys):
    data, make, shape, dtype, unit = CASES[case]
    make()
    assert launch(data) == 0
    assert launch(data, "--config.training.num_steps=6") == 0
    said = capsys.readouterr()
    assert "resuming" in said.err and ("black is" in said.out) == (dtype == "float32")
    run = tmp_path / "runs" / "own"
    record = json.loads((run / "config.json").read_text())["data"]
    assert (tuple(record["shape"]), record["kind"]) == (shape, "real" if dtype == "float32" else "bytes")
    for name in ("own.npz", "own"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / "elsewhere")
    assert launch(data, "--mode=sample") == 0  # with the data gone
    with np.load(run / "samples" / "ancestral-2-seed0" / "samples.npz") as found:
        assert found["samples"].shape == (6, *shape) and found["samples"].dtype == dtype
        assert np.isfinite(found["samples"]).all()
    (tmp_path / "elsewhere").rename(tmp_path / ("own.npz" if "array" in data else "own"))
    solver = "grid" if unit == "nats" else "rk45"  # which needs no pilot
    assert launch(data, "--mode=likelihood", f"--config.likelihood.solver={solver}") == 0
    assert f"{unit}/dim" in capsys.readouterr().out
    rows = list(csv.DictReader((run / "likelihood" / "per_image.csv").read_text().splitlines()))
    assert len(rows) == 3 and np.isfinite([float(row[f"{unit}_per_dim"]) for row in rows]).all()
    assert f"{unit}_per_dim" in json.loads((run / "likelihood" / "summary.json").read_text())


def test_statistics_are_the_training_splits_and_another_shape_is_refused(launch, tmp_path, capsys):
    arrays("own.npz", (16, 16))
    assert launch(REAL) == 0
    with np.load("own.npz") as found:
        train = found["train"]
    record = json.loads((tmp_path / "runs" / "own" / "config.json").read_text())["data"]
    np.testing.assert_allclose([*record["mean"], *record["std"]], [train.mean(), train.std()], rtol=1e-5)
    capsys.readouterr()
    for more, words in (
        ("shape=(8, 16)", ["(16, 16)", "data.shape=(8, 16)"]),
        ("mean=(0.0, 1.0)", ["data.mean has 2 numbers and the data 1 channels"]),
        ("std=(-1.0,)", ["data.std=(-1.0,) must be positive"]),
        ("augmentation=0.5", ["data.augmentation=0.5 is for bytes"]),
        ("kind='bytes'", ["the data's float32 pictures are -", "such as data.range=-"]),
    ):
        assert launch(f"{REAL}, {more}", "--workdir=other") == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words) and said.count("\n") == 1, said
    arrays("own.npz", (16, 8))
    assert launch(REAL, "--config.training.num_steps=6") == 2
    assert "the data have shape (16, 8) and the run was begun with (16, 16)" in capsys.readouterr().err


def test_the_field_has_its_likelihood_by_the_exact_score():
    """Standardised, by the ODE with the exact divergence: nats per dimension of the data's units to 1e-3."""
    side, mean, std = 6, 0.4, 1.7
    waves = np.fft.fft2(np.eye(side * side).reshape(-1, side, side), norm="ortho").reshape(side * side, -1)
    covariance = (waves.conj() * spectrum(side).reshape(-1)) @ waves.T
    law = gaussian(jnp.full((side, side), -mean / std), jnp.asarray(covariance.real / std**2, jnp.float32))
    config = tiny_config(
        data__name="array", data__path="none.npy", data__random_flip=False, data__uniform_dequantization=False
    )
    config.network.attn_resolutions = ()
    config.likelihood.update(divergence="exact", bound_samples=0, dequantizations=1, batch_size=8, accuracy=1e-4)
    spec = Spec((side, side), "real", (mean,), (std,))
    built = with_network(build(config, {"data": spec.to_json()}), OneConvolution())
    assert built.kind == Real(False, (mean,), (std,))
    names = ("sde", "system", "kind", "drawing", "platform")
    exact = type("Exact", (), {"config": config} | {name: getattr(built, name) for name in names})()
    exact.check = lambda: None
    exact.score_of = lambda params, condition: law.score(built.sde)
    x = fields(8, 5, side)
    rows = np.concatenate(list(ImageLikelihood(exact)({}, x, np.arange(8))))
    np.testing.assert_allclose(rows[:, 1], nats_per_dimension(x), atol=1e-3)
    assert jax.device_count() == 8
