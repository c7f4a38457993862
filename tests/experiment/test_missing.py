"""Fields that miss numbers: trained, sampled, their likelihoods taken of what is there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.sources import Dataset
from score_sde.data.spec import Missing, Spec, statistics
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.experiment.image_likelihood import ImageLikelihood
from score_sde.reporting.measure import noise_levels, path
from score_sde.sde.analytic import gaussian
from score_sde.systems.score import Score
from score_sde.training.step import View
from tests.golden_files import relative_error
from tests.tiny import tiny_config

SHAPE = (4, 6)
LAND = np.zeros(SHAPE, bool)
LAND[1:3, 2:5] = True


def config(path, **changes):
    base = {
        "network__ch_mult": (1,), "network__attn_resolutions": (), "data__name": "array", "data__path": str(path),
        "data__missing": "mask", "data__random_flip": False, "data__uniform_dequantization": False,
        "likelihood__bound_samples": 4, "likelihood__divergence": "exact", "likelihood__solver": "rk45",
    }  # fmt: skip
    return tiny_config(**base | changes)


def fields(folder, name, missing):
    x = 5 + 3 * np.random.default_rng(0).normal(size=(24, *SHAPE)).astype(np.float32)
    x[missing(x)] = np.nan
    np.savez(folder / f"{name}.npz", train=x[:20], test=x[20:])
    return folder / f"{name}.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fields")


@pytest.fixture(scope="module")
def sea(folder):
    """Of fields that miss the same land all."""
    return build(config(fields(folder, "land", lambda x: np.broadcast_to(LAND, x.shape))))


@pytest.fixture(scope="module")
def clouded(folder):
    """Of fields of which each misses something else."""
    clouds = np.random.default_rng(1).random((24, *SHAPE)) < 0.3
    return build(config(fields(folder, "clouds", lambda x: clouds)))


def test_statistics_are_of_what_is_there(sea, clouded):
    for experiment in (sea, clouded):
        x = np.asarray(experiment.data.train, np.float64)
        assert relative_error(experiment.spec.mean, np.atleast_1d(np.nanmean(x))) < 1e-12
        assert relative_error(experiment.spec.std, np.atleast_1d(np.nanstd(x))) < 1e-12
    np.testing.assert_array_equal(sea.spec.missing.present(SHAPE), ~LAND)
    assert clouded.spec.missing == Missing() and clouded.spec.missing.present(SHAPE) is None
    for experiment in (sea, clouded):
        assert Spec.from_json(experiment.spec.to_json()) == experiment.spec


def test_channels_miss_other_numbers():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32)
    x[:, :2, :, 1] = np.nan
    found = statistics(Dataset(x, x[:2]), (), (), masked=True)
    assert relative_error(found.mean, np.nanmean(x.astype(np.float64), axis=(0, 1, 2))) < 1e-6
    assert found.missing is not None and found.missing.common


@pytest.fixture(scope="module")
def losses(clouded):
    """Stored examples [8, ...] -> their losses [8], and the gradient of the mean; compiled once."""
    state, batch = clouded.initial_state(), jax.tree.map(lambda v: v[0], clouded.stream.batches(0, 8, 1))
    view = View(jnp.int32(0), state.averages, {})

    def mean(params, x):
        loss = clouded.loss(params, view, batch._replace(x=x))[0]
        return loss.mean(), loss

    compiled = jax.jit(jax.grad(mean, has_aux=True))
    return lambda x: compiled(state.params, x)[::-1]


def test_loss_is_blind_to_what_is_not_there(clouded, losses):
    """Each example's own, whatever the others miss, and finite with its gradient."""
    x = np.array(clouded.data.train[:8])
    loss, gradient = losses(x)
    assert np.isfinite(loss).all() and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    others = x.copy()
    others[1:] = 4.0
    assert relative_error(losses(others)[0][:1], loss[:1]) < 1e-6


@pytest.mark.parametrize("name", ["sea", "clouded"])
def test_samples(name, request):
    experiment = request.getfixturevalue(name)
    params = experiment.weights(experiment.initial_state())
    found = Generator(experiment)(params, 8, show=False)
    assert found.finite.all() and "present" not in found.condition
    nothing = np.isnan(found.x)
    np.testing.assert_array_equal(nothing, np.broadcast_to(LAND if name == "sea" else False, nothing.shape))


def test_likelihood_with_part_of_the_field_missing(sea):
    """Nats per dimension of what is there, of a Gaussian field by its exact score: the closed form's marginal."""
    places, there = np.arange(LAND.size), ~LAND.reshape(-1)
    covariance = 0.5 * np.exp(-np.abs(places[:, None] - places[None]) / 3.0) + 0.5 * np.eye(LAND.size)
    both = np.where(there[:, None] & there[None], covariance, np.eye(LAND.size))
    law = gaussian(jnp.zeros(SHAPE), jnp.asarray(both, jnp.float32))

    @dataclasses.dataclass(frozen=True)
    class Known(Score):
        def model(self, params, condition=None, dropout_keys=None, **execution):
            return lambda x, t: (law.score(self.process)(x, t), None)

    fields = {field.name: getattr(sea.system, field.name) for field in dataclasses.fields(sea.system)}
    known = dataclasses.replace(sea, system=Known(**fields))
    x = np.array(sea.data.held_out)
    found = np.concatenate([*ImageLikelihood(known)({}, sea.data.held_out, np.arange(len(x)))])
    (mean,), (std,) = sea.spec.mean, sea.spec.std
    own = covariance[np.ix_(there, there)] * std**2
    centred = x.reshape(len(x), -1)[:, there] - mean
    nats = 0.5 * ((centred * np.linalg.solve(own, centred.T).T).sum(1) + np.linalg.slogdet(2 * np.pi * own)[1])
    np.testing.assert_allclose(found[:, 1], nats / there.sum(), atol=2e-3)  # the noise of t_min, rk45's tolerance


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__missing": "refuse"}, "data.missing='mask'"),
        ({"degradation__name": "box"}, "degradation.name='box'"),
        ({"network__name": "ncsnv2_64"}, "cannot be told what is not there"),
        ({"system__name": "reflow"}, "data.missing='mask' is for system.name='score'"),
        ({"evaluation__final_samples": 8}, "each misses something else"),
    ],
)
def test_refused(folder, clouded, changes, message):
    with pytest.raises(UsageError, match=message):
        build(config(folder / "clouds.npz", **changes))


def test_bytes_miss_nothing(folder):
    np.save(folder / "bytes.npy", np.zeros((20, 4, 4, 1), np.uint8))
    with pytest.raises(UsageError, match="the data are bytes"):
        build(config(folder / "bytes.npy", data__height=4, data__width=4))


def test_an_example_of_nothing_is_refused(folder):
    x = np.ones((20, *SHAPE), np.float32)
    x[3] = np.nan
    np.save(folder / "nothing.npy", x)
    with pytest.raises(UsageError, match="1 examples have no number that is there"):
        build(config(folder / "nothing.npy"))


@pytest.mark.parametrize("name", ["sea", "clouded"])
def test_what_a_report_looks_at_is_what_is_there(name, request, monkeypatch):
    """Of Gaussian data by the exact score |sigma s|^2 and |sigma s + z|^2 add up to 1, whatever the examples miss."""
    experiment = request.getfixturevalue(name)
    law = gaussian(jnp.zeros(SHAPE), jnp.eye(LAND.size))
    monkeypatch.setattr(Score, "model", lambda self, *a, **o: lambda x, t: (law.score(self.process)(x, t), None))
    found = noise_levels(experiment, {}, np.arange(20), experiment.data.train, {})
    assert found.left_out.sum() == 0
    x = experiment.kind.comparable(np.asarray(experiment.data.train))
    there = ~np.isnan(np.asarray(experiment.data.train))
    assert np.abs(found.total[0] - 1).max() < 5 * found.total[1].max() + 0.02
    last = np.exp(found.log_snr[-1] / 2)  # sigma s = -sigma x_t there, which is nearly -sigma x_0
    squares = np.array([np.mean(one[own] ** 2) for one, own in zip(x, there)])
    np.testing.assert_allclose(found.norm[0][-1], squares.mean() / (1 + last**2), rtol=0.15)
    assert path(experiment, {}) is not None
    x = np.asarray(experiment.data.train)
    assert len(experiment.spec.comparable(x)) == (len(x) if name == "sea" else 0)
