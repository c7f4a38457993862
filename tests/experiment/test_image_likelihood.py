"""The likelihood of many images: padded, resumed, refused; an imported official checkpoint from the command line."""

import csv
import json
import math
import pathlib
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.data.kinds import Bytes
from score_sde.data.sources import digits
from score_sde.data.spec import Spec
from score_sde.devices.platform import platform
from score_sde.errors import UsageError
from score_sde.evaluation.likelihoods import LikelihoodFolder, columns, describe
from score_sde.experiment.conditions import Conditions
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.sde import vp
from score_sde.sde.analytic import gaussian
from score_sde.solvers import RK45
from tests.adapters.official import JAX_FILE
from tests.tiny import tiny_config

CONFIG = """
from tests.adapters.official import config_of

def get_config():
    config = config_of("ckpt_jax_expected")
    config.data.update(name="array", path={path!r})
    config.likelihood.update(num_images=10, batch_size=8, split="train")
    config.likelihood.update(bound_samples=2, dequantizations=1, solver="rk45")
    return config
"""


def test_a_set_of_images(tmp_path: pathlib.Path) -> None:
    """A model that is known, N(0, 0.3^2): its bits per dimension for each image; any batch, the last one padded."""
    config = tiny_config(likelihood__divergence="coloured", likelihood__probes=4)
    config.likelihood.update(batch_size=8, bound_samples=64, rtol=1e-6, atol=1e-6, dequantizations=4)
    sde, law = vp(), gaussian(jnp.zeros((8, 8, 1)), jnp.eye(64) * 0.3**2)
    known: Any = SimpleNamespace(
        config=config,
        sde=sde,
        system=SimpleNamespace(sde=lambda params: sde),
        score_of=lambda params, condition: law.score(sde),
        kind=Bytes(flip=False, dequantization=True, centered=True),
        drawing=SimpleNamespace(conditions=Conditions(Spec((8, 8, 1)))),
        check=lambda: None,
        platform=platform(),
    )
    program, numbers, images = ImageLikelihood(known), np.arange(0, 44, 4), digits().held_out
    batches = list(program({}, images, numbers))
    assert [len(rows) for rows in batches] == [8, 3]
    config.likelihood.update(seed=1)  # noticed at the next call
    again = next(iter(program({}, images, numbers)))
    assert (again[:, 1] != batches[0][:, 1]).all() and np.abs(again[:, 1] - batches[0][:, 1]).max() < 0.5
    config.likelihood.update(seed=0)
    np.testing.assert_array_equal(next(iter(program({}, images, numbers))), batches[0])
    rows = np.concatenate(batches)
    np.testing.assert_array_equal(rows[:, 0], numbers)
    x = (images[numbers].reshape(len(numbers), -1) + 0.5) / 128 - 1
    energy = (x**2 + (2 / 256) ** 2 / 12).mean(1) / 0.3**2
    expected = 7 + 0.5 * (math.log2(2 * math.pi * 0.3**2) + energy / math.log(2))
    np.testing.assert_allclose(rows[:, 1], expected, atol=0.01)
    np.testing.assert_allclose(rows[:, 1], expected, atol=6 * rows[:, 2].max() + 1e-3)
    assert abs(rows[:, 3] - expected).mean() < 3 * rows[:, 4].mean() and rows[:, 4].max() < 0.2
    again = np.concatenate(list(program({}, images, numbers[8:])))
    np.testing.assert_allclose(again, rows[8:], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(np.concatenate(list(program({}, images, numbers, done=8))), rows[8:])
    _resume(tmp_path, batches)
    found = program.pilot({}, images, numbers)
    assert found.examples == 8 and len(found.times) == rows[0, 5] < found.evaluations
    assert abs(found.error) + found.standard_error <= config.likelihood.accuracy
    again = np.concatenate(list(program({}, images, numbers, pilot=found)))
    np.testing.assert_array_equal(again, rows)
    config.likelihood.update(accuracy=1e-12)
    assert program.pilot({}, images, numbers).grid is None
    config.likelihood.update(rtol=0.1, atol=0.1)
    rough = program.pilot({}, images, numbers)
    assert rough.grid is rough.error is None and rough.evaluations < 32
    config.likelihood.update(rtol=1e-6, atol=1e-6)
    config.likelihood.update(solver="rk45")
    adaptive = np.concatenate(list(program({}, images, numbers)))
    np.testing.assert_allclose(adaptive[:, 1], rows[:, 1], atol=1e-3)
    assert (adaptive[:, 5] > rows[:, 5]).all()
    np.testing.assert_array_equal(adaptive[:, 3:5], rows[:, 3:5])


def _resume(tmp_path: pathlib.Path, batches: list[np.ndarray]) -> None:
    """A folder that a killed run left in the middle of its second batch goes on behind the first."""
    settings = {"likelihood": tiny_config().likelihood.to_dict(), "step": 3}
    folder = LikelihoodFolder(tmp_path / "likelihood", settings)
    assert folder.resume(overwrite=False) == 0
    for rows in batches:
        folder.table.append(rows)
    whole = folder.table.path.read_bytes()
    folder.table.path.write_bytes(whole[:-30])
    assert LikelihoodFolder(folder.path, settings).resume(overwrite=False) == 8
    folder.table.mend()
    folder.table.append(batches[1])
    assert folder.table.path.read_bytes() == whole
    found = folder.finish()
    assert json.loads((folder.path / "summary.json").read_text()) == found
    assert found["bits_per_dim"] == pytest.approx(np.concatenate(batches)[:, 1].mean())
    assert describe(found).startswith(f"probability-flow ODE: {found['bits_per_dim']:.4f} bits/dim")
    other = LikelihoodFolder(folder.path, {**settings, "step": 4})
    with pytest.raises(UsageError, match="of another checkpoint: add --overwrite"):
        other.resume(overwrite=False)
    assert other.resume(overwrite=True) == 0 and not (folder.path / "summary.json").exists()


@pytest.fixture
def launch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8))
    pathlib.Path("tiny.py").write_text(CONFIG.format(path="images.npy"))
    return lambda *arguments: main(["launch.py", "--config=tiny.py", *map(str, arguments)])


def five_steps(solver: RK45, drift: Any, x: jax.Array, t: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Euler's method in the place of the adaptive one, whose eight copies of the network take long to compile."""
    h = (s - t) / 5
    return jax.lax.fori_loop(0, 5, lambda i, x: x + h * drift(x, t + i * h), x), jnp.int32(5)


def test_an_imported_checkpoint(launch: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RK45, "integrate", five_steps)
    assert launch("--mode=import", f"--checkpoint={JAX_FILE}") == 0
    assert launch("--mode=likelihood") == 0
    assert "the SDE, at most: " in capsys.readouterr().out
    folder = pathlib.Path("runs/tiny/likelihood")
    text = (folder / "per_image.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == columns("bits") and len(rows) == 10
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["num_images"] == 10 and summary["step"] == 5
    for name in ("bits_per_dim", "bound"):
        assert summary[name] == pytest.approx(np.mean([float(row[name]) for row in rows]))
    assert summary["standard_error"] is None and summary["standard_error_images"] > 0
    assert launch("--mode=likelihood") == 0  # nothing left to do
    assert (folder / "per_image.csv").read_text() == text
    capsys.readouterr()
    assert launch("--mode=likelihood", "--config.likelihood.seed=1") == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert launch("--mode=likelihood", "--config.likelihood.split=held_out") == 2
    assert "likelihood.split='held_out' names no image of data.name='array'" in capsys.readouterr().err
