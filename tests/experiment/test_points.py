"""Point sets by a config: how many points samples have, what training and likelihood see, what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import lj13, polygons
from score_sde.cli.main import main
from score_sde.devices.parallel import Pmap, Sharded
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.rng import example_keys, positions, root_key
from score_sde.training.step import View
from tests.golden_files import quick_jit
from tests.networks.test_egnn import moved
from tests.systems.learning import learn, leaves, without_its_end
from tests.tiny import tiny_config


def config(path, **changes):
    base = {
        "network__name": "egnn", "network__num_res_blocks": 1, "parametrization__label": "log_sigma",
        "data__name": "array", "data__path": str(path), "data__kind": "points", "data__random_flip": False,
        "data__uniform_dequantization": False, "likelihood__bound_samples": 1, "likelihood__solver": "rk45",
    }  # fmt: skip
    return tiny_config(**base | changes)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Triangles and pentagons."""
    place = tmp_path_factory.mktemp("polygons") / "both.npz"
    np.savez(place, train=polygons.polygons(96, 0, (3, 5)), test=polygons.polygons(16, 1, (3, 5)))
    return place


@pytest.fixture(scope="module")
def both(path):
    return build(config(path))


def counts(experiment, position, points=""):
    found = experiment.drawing.conditions.of_samples("", 0, position, points=points)["present"]
    assert found.shape[1:] == experiment.shape and (found == found[..., :1]).all()
    return found[..., 0].sum(1)


def test_samples_have_as_many_points_as_the_data(both):
    """By the training split's law, a function of (seed, k); and the first rows."""
    share = float((~np.isnan(both.data.train[..., 0])).all(1).mean())
    assert both.spec.points.shares == (0, 0, pytest.approx(1 - share), 0, pytest.approx(share))
    drawn = counts(both, positions(0, 2000))
    assert set(drawn.tolist()) == {3, 5}
    assert abs((drawn == 5).mean() - share) < 3 * (share * (1 - share) / 2000) ** 0.5
    np.testing.assert_array_equal(counts(both, positions(700, 9)), drawn[700:709])


def test_asked_numbers_of_points(both):
    assert counts(both, positions(1, 4), "4").tolist() == [4] * 4
    assert counts(both, positions(1, 4), "2, 5").tolist() == [5, 2, 5, 2]
    assert counts(both, positions(0, 4), "each").tolist() == [3, 5, 3, 5]


def test_absent_points_of_samples_are_nan(both):
    params = both.weights(both.initial_state())
    found = Generator(both)(params, 8, show=False)
    np.testing.assert_array_equal(np.isnan(found.x[..., 0]).sum(1), 5 - counts(both, positions(0, 8)))
    assert found.finite.all() and not found.condition
    assert np.abs(np.nanmean(found.x, axis=1)).max() < 1e-4 * np.nanmax(np.abs(found.x))


@pytest.fixture(scope="module")
def losses(both):
    """Stored examples [8, ...] -> their losses [8], compiled once."""
    state, batch = both.initial_state(), jax.tree.map(lambda v: v[0], both.stream.batches(0, 8, 1))
    view = View(jnp.int32(0), state.averages, {})
    return quick_jit(lambda x: both.loss(state.params, view, batch._replace(x=x))[0])


def test_losses_are_each_example_s_own(both, losses):
    """Whatever the others are, wherever a set lies."""
    x = np.array(both.data.train[:8])
    loss, others = np.asarray(losses(x)), x.copy()
    others[1:] = x[[0] * 7]
    np.testing.assert_allclose(losses(others)[:1], loss[:1], rtol=1e-6)
    np.testing.assert_allclose(losses(x + 4.0), loss, rtol=1e-4)


@pytest.fixture(scope="module")
def whole(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points") / "whole"
    return leaves(learn(config(path), folder, Pmap(jax.devices()[:1]))), folder


class TestRuns:
    def test_resumed_is_bitwise_the_uninterrupted_run(self, whole, path, tmp_path):
        expected, folder = whole
        again = learn(config(path), without_its_end(folder, tmp_path / "run"), Pmap(jax.devices()[:1]))
        for mine, other in zip(expected, leaves(again), strict=True):
            np.testing.assert_array_equal(mine, other)

    def test_over_devices_and_in_microbatches(self, whole, path, tmp_path):
        state = learn(config(path, training__microbatches=2), tmp_path / "run", Sharded(4, jax.devices()))
        for mine, other in zip(whole[0], leaves(state), strict=True):
            np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-5)

    def test_the_trained_score_turns_with_its_points(self, whole, both):
        """Rotated, mirrored and reordered, in float32."""
        state = jax.tree.unflatten(jax.tree.structure(_parts(both)), whole[0])
        params, r = state[0], np.random.default_rng(3)
        x, t = r.normal(size=(4, *both.shape)).astype(np.float32), jnp.full(4, 0.4)
        present = {"present": np.ones(x.shape, bool)}
        score = quick_jit(lambda x: both.score_of(params, present)(x, t))
        out = np.asarray(score(x))
        for kind in ("rotation", "reflection"):
            q = moved(2, kind).astype(np.float32)
            assert np.abs(score(x @ q) - out @ q).max() < 1e-5 * np.abs(out).max()
        order = r.permutation(5)
        assert np.abs(score(x[:, order]) - out[:, order]).max() < 1e-5 * np.abs(out).max()


def _parts(experiment):
    state = experiment.abstract_state()
    return state.params, state.averages, state.optimizer


def test_atoms_by_command(tmp_path, capsys):
    """Trained on .xyz files and sampled, as frames of named elements too."""
    r, frames = np.random.default_rng(0), []
    for number in range(20):
        rows = [f"{'OH'[i > 0]} {' '.join(map(str, r.normal(size=3).round(3)))}" for i in range(2 + number % 2)]
        frames += [str(len(rows)), "", *rows]
    (tmp_path / "atoms.xyz").write_text("\n".join(frames) + "\n")
    (tmp_path / "config.py").write_text(
        "from tests.experiment.test_points import config\n"
        f"get_config = lambda: config({str(tmp_path / 'atoms.xyz')!r}, data__name='xyz', training__num_steps=2,"
        " data__held_out=4)\n"
    )
    line = ["launch.py", "--config", str(tmp_path / "config.py"), "--workdir", str(tmp_path / "run")]
    assert main(line) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert record["points"]["elements"] == ["O", "H"] and record["points"]["dimension"] == 3
    assert main([*line, "--mode=sample", "--config.sampling.points=2"]) == 0, capsys.readouterr().err
    (place,) = (tmp_path / "run" / "samples").glob("*-points_2/samples.xyz")
    lines = place.read_text().splitlines()
    assert (
        len(lines) == 8 * 4
        and lines[0] == "2"
        and {row.split()[0] for row in lines if len(row.split()) == 4} <= {"O", "H"}
    )
    for mode in (["evaluate"], ["export", "--format=jax"]):
        assert main([*line, "--mode", *mode]) == 2
        assert "the data are points" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network__name": "ddpm"}, "depends on the order of points"),
        ({"system__name": "vdm", "parametrization__label": "gamma"}, "system.name='vdm'"),
        ({"parametrization__label": "time"}, "does not suit network.name='egnn'"),
        ({"training__objective": "sliced"}, "takes no account of the centre"),
        ({"data__random_flip": True}, "mirrors pictures"),
        ({"data__dimension": 3}, "data.dimension=3 and a point has 2 numbers"),
        ({"data__std": (1.0, 2.0)}, "scales coordinates differently"),
        ({"data__mean": (1.0, 0.0)}, "moves coordinates"),
        ({"data__std": (1.0,)}, "data.std has 1 numbers and the data 2 channels"),
        ({"sampling__points": "6"}, "'6' is no number of points from 1 to 5"),
        ({"data__kind": "real"}, "network.name='egnn' is for point sets"),
        ({"data__name": "xyz", "data__kind": "real"}, "does not go with data.name='xyz'"),
        ({"guidance__threshold": "static"}, "points have none"),
        ({"degradation__name": "gray"}, "degradation"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_refused(path, changes, message):
    with pytest.raises(UsageError, match=message):
        build(config(path, **changes))


def test_what_is_of_points_alone():
    for changes in ({"data__dimension": 2}, {"sampling__points": "3"}):
        with pytest.raises(UsageError, match="has no effect on data that are no points"):
            build(tiny_config(**changes))


def test_polygons_and_clusters():
    """Of the scripts that make data: five sides and five diagonals; energies and their differences."""
    found = polygons.distances(polygons.polygons(400, 0))
    sides = 2 * polygons.RADIUS * np.sin(np.pi / 5 * np.array([1, 2]))
    np.testing.assert_allclose(found.mean(0).reshape(2, 5).mean(1), sides, atol=0.01)
    r = np.random.default_rng(0)
    x, after = r.normal(size=(6, 13, 3)) * 1.5, r.normal(size=(6, 3)) * 1.5
    moved_x = x.copy()
    moved_x[:, 4] = after
    np.testing.assert_allclose(lj13.change(x, 4, after), lj13.energy(moved_x) - lj13.energy(x), rtol=1e-9)
    pair = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    np.testing.assert_allclose(lj13.energy(pair), -2 + 0.25)
    states, share, std = lj13.clusters(0, chains=3, burn_in=4, thin=2, kept=2)
    assert states.shape == (2, 3, 13, 3) and 0 <= share <= 1 and std > 0
    assert np.abs(states.mean(2)).max() < 1e-6


@pytest.mark.oracles
def test_pentagons(tmp_path, optimised):
    """Distances of a trained run's samples within 0.03 of the data's; the centre beside it has variance 1."""
    from configs.polygons import get_config

    c = get_config()
    c.data.path = str(tmp_path / "polygons.npz")
    np.savez(c.data.path, train=polygons.polygons(20_000, 0), test=polygons.polygons(100, 1))
    c.logging.samples_every, c.evaluation.every = 0, 0
    state = learn(c, tmp_path / "run")
    experiment = build(c)
    params = experiment.weights(state)
    found = Generator(experiment)(params, 1000, show=False).x
    assert float(str(polygons.compared(found)["difference"])) < 0.03
    present = {"present": jnp.ones((1000, *experiment.shape), bool)}
    draw = quick_jit(lambda keys: experiment.drawing(experiment.score_system, params, keys, present).x)
    whole = np.asarray(draw(example_keys(root_key(0), positions(0, 1000))))
    centre = (whole.mean(1) ** 2).mean() * whole.shape[1]
    assert abs(centre - 1) < 3 * (2 / 2000) ** 0.5
