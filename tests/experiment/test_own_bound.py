"""A system's own bound by --mode likelihood: rows, their means and errors, resumption; what is refused."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.cli.likelihood import likelihood
from score_sde.cli.main import main
from score_sde.config.bound_checks import check_bound
from score_sde.errors import UsageError
from score_sde.evaluation.likelihoods import LikelihoodFolder, describe
from score_sde.evaluation.per_image import PerImage
from score_sde.experiment import build
from score_sde.experiment.own_bound import OwnBound
from score_sde.rng import Purpose, child, example_keys, root_key, uniform, words
from score_sde.signals import Stopped
from score_sde.systems import Bounded
from tests import tiny
from tests.systems import autoencoding
from tests.systems.autoencoding import vae_config
from tests.tiny import tiny_config, trained_run

COUNT = 20


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A bound of |x|_1 + u nats by a draw u of its own key, in two terms."""

    discrete: bool = True
    parts: tuple[str, ...] = ("w",)
    frozen: tuple[str, ...] = ()

    def init(self, key, frozen):
        return {"w": {"a": jnp.zeros(())}}

    def bound(self, params, keys, x0, condition):
        u, norm = uniform(child(keys, Purpose.NOISE)), jnp.abs(x0.reshape(len(x0), -1)).sum(1)
        return norm + u, {"u": u, "norm": norm}


def config(**changes):
    return vae_config(likelihood__num_images=COUNT, likelihood__batch_size=8, **changes)


def bounded(discrete, **changes):
    own = tiny_config(data__centered=False, data__uniform_dequantization=False, **changes)
    experiment = build(own, system=lambda config, spec, drawing, frozen: Drawn(discrete))  # pyright: ignore
    numbers = np.arange(5)
    return experiment, np.concatenate([*OwnBound(experiment)({"w": {}}, experiment.data.held_out, numbers)])


@pytest.mark.parametrize("discrete", [True, False])
def test_rows_are_of_stored_data_or_of_their_density(discrete):
    """Of bytes b / 255 as they are, and of (b + u) / 256, whose density is 256^D times the probability."""
    experiment, rows = bounded(discrete, likelihood__dequantizations=3)
    assert OwnBound(experiment).terms == ("norm", "u")
    index, bits, _, nats, norm, u = rows.T
    stored = np.asarray(experiment.data.held_out[index.astype(int)], np.float64)
    expected = np.abs(stored / 255 if discrete else (stored + 0.5) / 256).sum((1, 2, 3))
    np.testing.assert_allclose(norm, expected, rtol=1e-5 if discrete else 2e-2)
    np.testing.assert_allclose(nats, norm + u, rtol=1e-6)
    np.testing.assert_allclose(bits, nats / (64 * math.log(2)) + (0 if discrete else 8), rtol=1e-5)
    assert len(set(u)) == len(u) and (u > 0).all() and (u < 1).all()


def test_a_row_is_a_function_of_its_number():
    """Of the seed, the number and the repetition, whatever the batch."""
    _, rows = bounded(True, likelihood__batch_size=8)
    _, others = bounded(True, likelihood__batch_size=128)
    np.testing.assert_array_equal(rows, others)
    key = jax.random.fold_in(root_key(0), Purpose.EVALUATION)
    keys = [child(example_keys(key, words(np.arange(5))), k) for k in (0, 1)]
    draws = np.mean([uniform(child(own, Purpose.NOISE)) for own in keys], axis=0)
    np.testing.assert_allclose(rows[:, 5], draws, rtol=1e-6)


def test_an_autoencoder_has_one():
    assert isinstance(build(vae_config()).system, Bounded)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "run", config())


def test_by_command_and_gone_on_from(run, monkeypatch):
    """The bound, the importance-weighted one below it, and the terms; stopped and resumed the files are the same."""
    changes = {"likelihood__importance_samples": 16}
    assert likelihood(config(**changes), run) == 0
    folder = run.path / "likelihood"
    whole = {name: (folder / name).read_bytes() for name in ("per_image.csv", "summary.json")}
    found = json.loads(whole["summary.json"])
    assert found["num_images"] == COUNT and found["not_finite"] == found["importance_not_finite"] == 0
    assert found["importance_weighted"] < found["bits_per_dim"]
    terms = found["terms"]["reconstruction"]["mean"] + found["terms"]["kl"]["mean"]
    assert found["nats"]["mean"] == pytest.approx(terms) and found["nats"]["standard_error_images"] > 0
    assert found["bits_per_dim"] == pytest.approx(terms / (64 * math.log(2)) + 8, rel=1e-5)
    said = describe(found)
    assert f"at most: {found['bits_per_dim']:.4f} bits/dim" in said and "of 16 draws, at most: " in said
    assert f"in all {terms:.2f} +-" in said and "kl " in said and "reconstruction " in said

    append, seen = PerImage.append, []

    def stopped(self, rows):
        append(self, rows)
        seen.append(len(rows))
        if len(seen) == 1:
            raise Stopped(15, "halted")

    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        patch.setattr(PerImage, "append", stopped)
        with pytest.raises(Stopped):
            likelihood(config(**changes), run)
    with pytest.raises(UsageError, match="add --overwrite, or move it away"):
        likelihood(config(), run)
    assert likelihood(config(**changes), run) == 0
    assert {name: (folder / name).read_bytes() for name in whole} == whole


def test_its_columns(tmp_path):
    of = lambda n: LikelihoodFolder(tmp_path, {"likelihood": {"importance_samples": n}}, "nats", terms=("kl",))
    assert of(0).table.columns == ("index", "nats_per_dim", "standard_error", "nats", "kl")
    weighted = ("importance_weighted", "importance_standard_error")
    assert of(4).table.columns == ("index", "nats_per_dim", "standard_error", *weighted, "nats", "kl")


REFUSED = [
    (
        "likelihood.solver=rk45",
        "likelihood.solver='rk45' has no meaning for system.name='vae', whose likelihood is",
    ),
    ("likelihood.probes=4", "likelihood.probes=4 has no meaning for system.name='vae'"),
    ("likelihood.bound_samples=0", "likelihood.bound_samples=0 has no meaning for system.name='vae'"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_a_bound_has_not_is_refused(run, capsys, change, words):
    line = ["launch.py", "--config", autoencoding.__file__, "--workdir", str(run.path), "--mode=likelihood"]
    assert main([*line, f"--config.{change}"]) == 2
    assert words in capsys.readouterr().err


def test_bounds_are_not_compared_between_classes():
    own = vae_config(likelihood__label="each")
    with pytest.raises(UsageError, match=r"label='each' compares likelihoods, and system\.name='vae' has a bound"):
        check_bound(own)


def test_what_has_no_latents_has_no_importance_weighted_bound(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"importance_samples=4 has no effect on .* whose bound is not of a ratio"):
        bounded(True, likelihood__importance_samples=4)
    line = ["launch.py", "--config", tiny.__file__, "--workdir", str(tmp_path), "--mode=likelihood"]
    assert main([*line, "--config.likelihood.importance_samples=4"]) == 2
    assert "importance_samples=4 has no effect on system.name='score', which has no latents" in capsys.readouterr().err
