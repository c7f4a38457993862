"""A run directory of an earlier version is sampled, and trained on, as that version did it."""

import json
import math
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.config import Config
from score_sde.experiment import build
from score_sde.loop.loop import train
from score_sde.networks import layers
from score_sde.storage.workdir import Workdir
from tests.golden_files import GOLDEN, relative_error
from tests.tiny import tiny_config

RUN = GOLDEN / "earlier" / "run_0_1.zip"
EXPECTED = np.load(GOLDEN / "earlier" / "run_0_1_expected.npz")


def config(**changes) -> Config:
    """What it was trained with, as a config file would say it today."""
    return tiny_config(
        network__nf=4, network__attn_resolutions=(), ema__averages=("warmup", "power"), ema__snapshot_every=3,
        checkpoint__every=6, **changes,
    )  # fmt: skip


@pytest.fixture
def workdir(tmp_path):
    with zipfile.ZipFile(RUN) as file:
        file.extractall(tmp_path / "run")
    return Workdir(tmp_path / "run")


def test_it_is_sampled_by_stored_and_reconstructed_averages(workdir):
    assert modes.sample(config(), workdir) == 0
    with np.load(workdir.samples / "ancestral-4-seed0" / "samples.npz") as arrays:
        found = arrays["samples"].astype(int)
    assert np.abs(found - EXPECTED["samples"]).max() <= 1
    assert (found != EXPECTED["samples"]).mean() < 0.02
    assert modes.sample(config(sampling__average="power_0.070"), workdir) == 0


def masks_of_before(key, shape, dropped):
    """Both halves of a word side by side, as dropout drew its masks then."""
    count = math.prod(shape)
    words = jax.random.bits(key, ((count + 1) // 2,), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:count].reshape(shape) >= dropped


def test_it_goes_on_as_it_would_have(workdir, monkeypatch):
    """To step 12: every parameter and every logged loss are those that the earlier version came to.

    Given the masks of dropout of then, which were the same bits in another order. A bias of keys, which no attention
    depends on, is rounding alone, on each processor another.
    """
    monkeypatch.setattr(layers, "mask", masks_of_before)
    state = train(build(config(), workdir.record()), workdir, show=False)
    leaves = jax.tree_util.tree_leaves_with_path(state.params["score"])
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    assert {f"params/{name}" for name in found} == {name for name in EXPECTED if name.startswith("params/")}
    for name, leaf in found.items():
        expected = EXPECTED[f"params/{name}"]
        if name.endswith("NIN_1/b"):
            assert np.abs(np.asarray(leaf) - expected).max() <= 1e-8, name
        else:
            assert relative_error(np.asarray(leaf), expected) < 1e-4, name
    losses = [json.loads(line)["loss"] for line in workdir.metrics.read_text().splitlines()]
    np.testing.assert_allclose(losses, EXPECTED["loss"], rtol=1e-5)
