"""Signals and volumes: trained, sampled, looked at, their likelihoods taken, by the image network's one code."""

import jax
import numpy as np
import pytest
from PIL import Image

from score_sde.cli.main import main
from score_sde.config.spaces import channels, image_shape, space_rank
from score_sde.data.spec import Spec
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.storage.curves import curves, of_rank, slices
from tests.golden_files import relative_error
from tests.tiny import tiny_config

SHAPES = {"signal": ((16, 2), 1), "volume": ((4, 4, 8), 3)}


def config(folder, name, **changes):
    shape, rank = SHAPES[name]
    x = 5 + 3 * np.random.default_rng(0).normal(size=(24, *shape)).astype(np.float32)
    x = x * (1 + np.arange(shape[-1])) if rank == 1 else x
    np.savez(folder / f"{name}.npz", train=x[:20].astype(np.float32), test=x[20:].astype(np.float32))
    base = {
        "network__ch_mult": (1, 2), "network__attn_resolutions": (), "network__circular": (0,), "data__name": "array",
        "data__path": str(folder / f"{name}.npz"), "data__rank": rank, "data__random_flip": False,
        "data__uniform_dequantization": False, "training__num_steps": 2, "checkpoint__every": 2, "logging__every": 1,
        "sampling__num_steps": 2, "likelihood__bound_samples": 0, "likelihood__solver": "rk45",
        "likelihood__rtol": 0.1, "likelihood__atol": 0.1, "likelihood__t_min": 1e-2, "likelihood__num_images": 2,
    }  # fmt: skip
    return tiny_config(**base | changes)


@pytest.mark.parametrize("name", SHAPES)
def test_by_command(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    config(tmp_path, name)
    (tmp_path / "own.py").write_text(
        "import pathlib\nfrom tests.experiment.test_ranks import config\n"
        f"def get_config():\n    return config(pathlib.Path('.'), {name!r})\n"
    )
    for mode in ("train", "sample", "likelihood"):
        assert main(["launch.py", "--config=own.py", "--workdir=run", f"--mode={mode}"]) == 0
    (folder,) = (path for path in (tmp_path / "run" / "samples").iterdir() if path.is_dir())
    samples = np.load(folder / "samples.npz")["samples"]
    assert samples.shape == (8, *SHAPES[name][0]) and np.isfinite(samples).all()
    picture = np.asarray(Image.open(folder / "grid.png"))
    assert picture.std() > 1 and picture.ndim == (3 if name == "signal" else 2)


def test_channels_have_their_own_statistics(tmp_path):
    experiment = build(config(tmp_path, "signal"))
    x = experiment.data.train
    assert relative_error(experiment.spec.mean, np.asarray(x, np.float64).mean((0, 1))) < 1e-6
    assert relative_error(experiment.spec.std, np.asarray(x, np.float64).std((0, 1))) < 1e-6
    assert Spec.from_json(experiment.spec.to_json()) == experiment.spec
    kernels = jax.tree.leaves(experiment.abstract_params())
    assert {leaf.ndim for leaf in kernels} <= {1, 2, 3}


def test_axes():
    assert [space_rank(s) for s in ((5,), (5, 5), (5, 5, 2), (5, 5, 5, 2))] == [1, 2, 2, 3]
    assert (
        image_shape((5,)) == (5, 1) and image_shape((5, 2), 1) == (5, 2) and image_shape((5, 4, 3), 3) == (5, 4, 3, 1)
    )
    assert (
        channels((5, 2), 1) == 2 and channels((5, 2)) == 1 and channels((5, 4, 3)) == 3 and channels((5, 4, 3), 3) == 1
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("signal", {"data__rank": 3}, "data.rank=3 and one example has the shape"),
        ("signal", {"data__random_flip": True}, "data.random_flip=True is for"),
        ("signal", {"network__ch_mult": (1, 1, 1, 1, 1, 1)}, "cannot be halved 5 times"),
        ("signal", {"network__circular": (1,)}, "which are 0 to 0"),
        ("volume", {"network__circular": (0, 0)}, "each once"),
        ("volume", {"network__name": "ncsnv2_64", "network__circular": ()}, r"takes \[H, W, C\]"),
        ("volume", {"network__name": "ncsnv2_64"}, "has no effect on network.name"),
    ],
)
def test_refused(tmp_path, name, changes, message):
    with pytest.raises(UsageError, match=message):
        build(config(tmp_path, name, **changes))


def test_curves_are_where_the_numbers_are():
    """A line from the bottom to the top is a diagonal; of a long signal no peak is lost; NaN is left out."""
    ramp = np.linspace(0, 1, 12)[None, :, None]
    ink = (curves(ramp)[0] != 255).any(-1)
    rows = np.array([np.flatnonzero(column).mean() for column in ink.T])
    assert np.all(np.diff(rows) <= 0) and rows[0] - rows[-1] > 0.85 * ink.shape[0]
    long = np.zeros((1, 5000, 1))
    long[0, 3210] = 1
    ink = (curves(long)[0] != 255).any(-1)
    assert ink[: ink.shape[0] // 4].any() and ink.shape[1] == 288
    assert (curves(np.full((2, 40, 1), np.nan)) == 255).all()


def test_slices_stand_side_by_side():
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(np.float32)
    found = of_rank(x, 3)
    assert found.shape == (2, 4, 15, 1)
    np.testing.assert_array_equal(found[1, :, 5:10, 0], x[1, 1])
    np.testing.assert_array_equal(slices(x[..., None]), found)
    assert of_rank(x, 2) is x
