"""Fields beside fields: what a network is shown of the data, of a file, and that it matters."""

import jax
import numpy as np
import pytest

from score_sde.data.spec import Spec
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.fields import asked_fields
from score_sde.experiment.generation import Generator
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.names import IMAGE
from score_sde.rng import positions
from tests.golden_files import relative_error
from tests.tiny import tiny_config

SHAPE = (4, 6, 1)


def config(path, **changes):
    base = {
        "network__ch_mult": (1,), "network__attn_resolutions": (), "data__name": "array", "data__path": str(path),
        "data__condition": ("field",), "data__random_flip": False, "data__uniform_dequantization": False,
        "likelihood__bound_samples": 0, "likelihood__solver": "rk45", "likelihood__rtol": 0.1, "likelihood__atol": 0.1,
    }  # fmt: skip
    return tiny_config(**base | changes)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    random = np.random.default_rng(0)
    before = 7 + 2 * random.normal(size=(24, 4, 6, 2)).astype(np.float32)
    before[3, 0, 0, 1] = np.nan
    x = before.mean(-1, keepdims=True) + random.normal(size=(24, *SHAPE)).astype(np.float32)
    x[3, 0, 0] = 0
    file = tmp_path_factory.mktemp("fields") / "weather.npz"
    np.savez(file, train=x[:20], test=x[20:], field=before[:20], test_field=before[20:])
    return file


@pytest.fixture(scope="module")
def experiment(path):
    return build(config(path))


def test_fields_are_standardised_by_channel(experiment, path):
    before = np.load(path)["field"].astype(np.float64)
    beside = experiment.spec.beside
    assert relative_error(beside.mean, np.nanmean(before, axis=(0, 1, 2))) < 1e-6
    assert relative_error(beside.std, np.nanstd(before, axis=(0, 1, 2))) < 1e-6
    assert Spec.from_json(experiment.spec.to_json()) == experiment.spec
    batch = experiment.stream.batches(0, 8, 1)
    shown = batch.condition[IMAGE][0]
    assert shown.shape == (8, 4, 6, 2) and abs(float(shown.mean())) < 0.5
    places = [int(np.flatnonzero((np.load(path)["train"] == one).all((1, 2, 3)))[0]) for one in batch.x[0]]
    expected = np.nan_to_num((before[places] - np.array(beside.mean)) / np.array(beside.std), nan=0.0)
    np.testing.assert_allclose(shown, expected, atol=1e-5)


def test_samples_are_of_fields_in_turn(experiment, path):
    """By default of the data's held-out ones; sample k of field k mod K, which decides it."""
    found = experiment.conditions(positions(0, 6))[IMAGE]
    own = asked_fields(str(path), experiment.spec.beside)
    assert len(own) == 4
    np.testing.assert_array_equal(found, own[[0, 1, 2, 3, 0, 1]])
    samples = Generator(experiment)(experiment.weights(experiment.initial_state()), 8, show=False)
    assert samples.x.shape == (8, *SHAPE) and IMAGE not in samples.condition


def test_the_field_decides_the_score(experiment):
    params = experiment.init_params()
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    shown = np.stack([np.zeros((4, 6, 2), np.float32), np.ones((4, 6, 2), np.float32)])
    score = jax.jit(lambda x, shown: experiment.score_of(params, {IMAGE: shown})(x, np.float32(0.5)))
    both, swapped = score(x, shown), score(x, shown[::-1])
    assert np.abs(both - swapped).max() > 1e-3
    assert relative_error(score(x[::-1], shown[::-1])[::-1], both) < 1e-5


def test_likelihood_is_of_the_examples_own_field(experiment):
    params = experiment.weights(experiment.initial_state())
    data = experiment.data
    rows = np.concatenate([*ImageLikelihood(experiment)(params, data.held_out, np.arange(4), data.held_out_condition)])
    assert np.isfinite(rows[:, 1]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling__condition": "none.npy"}, "sampling.condition='none.npy' is no file"),
        ({"data__condition": (), "sampling__condition": "a.npy"}, "has no effect without fields"),
        ({"degradation__name": "box"}, "leave one of them out"),
        ({"system__name": "reflow"}, "is for system.name='score'"),
        ({"network__name": "ncsnv2_64"}, "does not take"),
    ],
)
def test_refused(path, changes, message):
    with pytest.raises(UsageError, match=message):
        build(config(path, **changes))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"field": np.zeros((3, 4, 5, 2))}, "the network is shown"),
        ({"other": np.zeros((3, 4, 6, 2))}, "has no array field"),
    ],
)
def test_a_file_of_others_is_refused(experiment, tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        asked_fields(str(tmp_path / "a.npz"), experiment.spec.beside)


def test_an_array_file_is_of_fields(experiment, tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4, 6, 2), experiment.spec.beside.mean))
    assert np.abs(asked_fields(str(tmp_path / "a.npy"), experiment.spec.beside)).max() < 1e-5


def test_fields_of_another_size_are_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, *SHAPE)).astype(np.float32)
    np.savez(tmp_path / "a.npz", train=x, field=np.zeros((20, 3, 6, 2), np.float32))
    with pytest.raises(UsageError, match="of that height and width"):
        build(config(tmp_path / "a.npz"))
