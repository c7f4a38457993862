"""The editing section: laws on Gaussian data in the data's units, pairs, purification's accuracy, what is refused."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import main, modes
from score_sde.config.validation import validate
from score_sde.data.kinds import Bytes
from score_sde.errors import UsageError
from score_sde.experiment import build, editing, objects
from score_sde.experiment.generation import Generator
from score_sde.likelihood.encoding import interpolate
from score_sde.rng import example_keys, positions, root_key
from score_sde.sde import karras
from score_sde.sde.analytic import gaussian
from score_sde.sde.conditioning import edited
from tests.experiment.test_asking import Told
from tests.experiment.test_measuring import COVARIANCE, MEAN, SHAPE, STD, Exact, fields
from tests.gradients import shaken_state
from tests.systems.test_classifier import OPTIONS, Linear
from tests.tiny import tiny_config, trained_run, with_network
from tests.training.small import OneConvolution


@pytest.fixture
def small_networks(monkeypatch):
    monkeypatch.setitem(objects.NETWORKS, "ncsnpp", lambda c, s: Told() if s.labels else OneConvolution())
    monkeypatch.setitem(objects.NETWORKS, "wideresnet", lambda c, s: Linear())


@pytest.mark.parametrize("name", ["edit", "purify"])
def test_samples_have_the_exact_law_in_the_datas_units(name, tmp_path):
    x = MEAN + STD * np.random.default_rng(2).normal(size=SHAPE)
    np.savez(tmp_path / "edit.npz", x=x)
    config = fields(tmp_path)
    config.sampling.update(solver="exponential_euler_maruyama", num_steps=400)
    config.editing.update(name=name, path=str(tmp_path / "edit.npz"), time=0.7)
    experiment = with_network(build(config), Exact())
    drawn = Generator(experiment)(experiment.init_params(), 2048, show=False)
    assert drawn.condition["example"].tolist() == [0] * 2048 and set(drawn.condition) == {"example"}
    assert 150 < drawn.evaluations < 250  # those of the grid's nodes below the level
    prior = np.kron(np.kron(np.eye(4), COVARIANCE), np.eye(2))
    law = edited(gaussian(jnp.zeros(SHAPE), jnp.asarray(prior)), karras(50.0), jnp.float32(0.7), (x - MEAN) / STD)
    mean, covariance = law.mixture().moments()
    found = ((drawn.x - MEAN) / STD).reshape(2048, -1)
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((found.mean(0) - mean.reshape(-1)) / spread).max() < 5 / np.sqrt(2048)
    assert np.abs((np.cov(found.T) - covariance) / spread[:, None] / spread[None]).max() < 0.15


def edits(tmp_path, **changes):
    """A run of digits, three pictures of which are edited twice each, but for two rows."""
    random = np.random.default_rng(0)
    mask = np.zeros((8, 8))
    mask[:2] = 1
    x = random.integers(0, 256, (3, 8, 8, 1))
    np.savez(tmp_path / "x.npz", x=x, mask=mask, truth=255 - x)
    own = {"editing__name": "edit", "editing__path": str(tmp_path / "x.npz"), "editing__time": 0.5}
    more = {"sampling__num_steps": 8, "sampling__num_samples": 6, "sampling__batch_size": 6}
    return tiny_config(**{"network__dropout": 0.0, **own, "editing__samples": 2, **more, **changes})


def test_the_command_line_edits_what_is_not_kept_and_shows_it(tmp_path, small_networks, capsys):
    config = edits(tmp_path)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    assert "answers.png: from left to right x, samples, mean" in capsys.readouterr().out
    (folder,) = workdir.samples.iterdir()
    x = np.load(tmp_path / "x.npz")["x"]
    settings = json.loads((folder / "settings.json").read_text())
    assert folder.name == f"ancestral-8-seed0-edit-0.5-{settings['editing_sha256'][:8]}"
    assert settings["editing"]["time"] == 0.5 and settings["evaluations"] == 5
    with np.load(folder / "samples.npz") as arrays:
        assert arrays["example"].tolist() == [0, 0, 1, 1, 2, 2] and not [n for n in arrays if n.startswith("editing")]
        np.testing.assert_array_equal(arrays["samples"][:, :2], x.repeat(2, 0)[:, :2])
        assert (arrays["samples"][:, 2:] != x.repeat(2, 0)[:, 2:]).mean() > 0.9
    with Image.open(folder / "answers.png") as picture:
        side = 8 * 6 + 2
        assert picture.size == (6 * side + 2, 3 * side + 2)  # x, two samples, mean, spread, truth
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[side + 2 + 3 : 2 * side : 6, 2 + 3 : side : 6][:8, :8], x[1, :, :, 0])
    assert modes.sample(config, workdir) == 0
    assert "already holds" in capsys.readouterr().out
    config.editing.update(repeats=3)
    assert modes.sample(config, workdir) == 0
    assert "of 15 network evaluations each" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{}, {"editing__name": "interpolate", "sampling__solver": "rk45"}])
def test_a_sample_depends_on_its_number_and_example_alone(changes, tmp_path):
    config = edits(tmp_path, **changes)
    x = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 1))
    np.savez(tmp_path / "x.npz", x=x)
    experiment = with_network(build(config), OneConvolution())
    params, order = shaken_state(experiment).params, np.array([3, 0, 1, 2])
    position = positions(0, 4)

    @jax.jit
    def draw(position, condition):
        return experiment.draw(params, example_keys(root_key(0), position), condition).x

    at = lambda position: draw(position, experiment.conditions(position))
    whole = at(position)
    assert np.isfinite(whole).all() and (whole[0] != whole[1]).any()
    np.testing.assert_array_equal(at(position[order]), whole[order])
    generator = Generator(experiment)
    before = generator(params, 4, show=False).x
    np.testing.assert_array_equal(generator(params, 3, show=False).x, before[:3])
    np.savez(tmp_path / "x.npz", x=np.concatenate([x[:2], 255 - x[2:]]))
    after = generator(params, 4, show=False).x
    changed = (after != before).any((1, 2, 3)).tolist()
    assert changed == ([False, False, True, True] if changes else [False] * 4)
    config.editing.samples = 1 if not changes else 2
    if not changes:
        changed = (generator(params, 4, show=False).x != before).any((1, 2, 3))
        assert changed.tolist() == [False, True, True, True]


class Classes(nn.Module):
    """The denoiser of N(2 k, 1) of the class k, under EDM's SDE."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        self.param("none", nn.initializers.zeros, (1,))
        mean = 2.0 * condition["label"].astype(x.dtype)[:, None, None, None]  # pyright: ignore[reportOptionalSubscript]
        variance = sigma.astype(x.dtype)[:, None, None, None] ** 2
        return (x + variance * mean) / (1 + variance)


@pytest.mark.parametrize("time", [0.0, 3.0])
def test_pairs_are_met_under_the_class_that_is_asked_for(time, tmp_path):
    """By the flow's closed form: (x - m_y) sqrt((1 + t^2) / (1 + t_min^2)) + m_y, and back under another class."""
    x = np.random.default_rng(3).normal(size=(4, 4, 4, 1)).astype("f")
    np.savez(tmp_path / "data.npz", train=x, label=np.arange(4) % 3)
    np.savez(tmp_path / "pairs.npz", x=x, y=[0, 1, 2, 0])
    config = tiny_config(
        data__name="array", data__path=str(tmp_path / "data.npz"), data__condition=("label",), sde__name="edm",
        data__random_flip=False, data__uniform_dequantization=False, data__mean=(0.0,), data__std=(1.0,),
        training__times="log_normal", parametrization__prediction="denoiser", parametrization__label="log_sigma",
        network__dropout=0.0, network__attn_resolutions=(4,), sampling__solver="rk45", sampling__t_min=0.01,
        sampling__label="2", sampling__num_samples=10, sampling__batch_size=5, editing__name="interpolate",
        editing__path=str(tmp_path / "pairs.npz"), editing__samples=5, editing__time=time,
    )  # fmt: skip
    experiment = with_network(build(config), Classes())
    drawn = Generator(experiment)(experiment.init_params(), 10, show=False)
    assert drawn.condition["label"].tolist() == [2] * 10 and drawn.condition["example"].tolist() == [0] * 5 + [1] * 5
    weights = np.linspace(0, 1, 5)
    np.testing.assert_allclose(drawn.condition["weight"], np.tile(weights, 2), rtol=1e-6)
    rate, mean = np.sqrt((1 + (time or 50.0) ** 2) / (1 + 0.01**2)), 2.0 * np.array([0, 1, 2, 0])[:, None, None, None]
    z = mean + (x - mean) * rate
    met = np.asarray(interpolate(jnp.asarray(z[::2]), jnp.asarray(z[1::2]), jnp.asarray(weights)))
    expected = 4 + (met - 4) / rate
    np.testing.assert_allclose(drawn.x.reshape(2, 5, 4, 4, 1), expected.swapaxes(0, 1), atol=2e-3)
    if time == 0:  # the ends, with the mean of the class that is asked for in the place of their own
        np.testing.assert_allclose(drawn.x[[0, 4, 5, 9]], x - mean + 4, atol=0.1)


def test_pairs_by_the_command_line(tmp_path, small_networks, capsys):
    config = edits(tmp_path, editing__name="interpolate", sampling__solver="rk45", editing__samples=3)
    x = np.random.default_rng(0).integers(20, 200, (4, 8, 8, 1))
    np.savez(tmp_path / "x.npz", x=x)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    assert "answers.png: from left to right one of a pair, what lies between, the other" in capsys.readouterr().out
    (file,) = workdir.samples.glob("rk45-8-seed0-interpolate-0.5-*/samples.npz")
    with np.load(file) as arrays:
        ends = arrays["samples"][[0, 2, 3, 5]].astype(int)
        assert arrays["weight"].tolist() == [0, 0.5, 1] * 2
    np.testing.assert_allclose(ends, x, atol=2)
    with Image.open(file.parent / "answers.png") as picture:
        assert picture.size == (5 * 50 + 2, 2 * 50 + 2)


def test_purification_tells_the_classifiers_accuracy_and_that_attacks_adapt(tmp_path, small_networks, capsys):
    config = edits(tmp_path, editing__name="purify", editing__time=0.2)
    run = trained_run(tmp_path / "classifier", tiny_config(**OPTIONS)).path
    config.frozen.classifier = str(run)
    x, y = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)), np.array([1, 2, 3])
    np.savez(tmp_path / "x.npz", x=x, y=y)
    workdir = trained_run(tmp_path / "run", config)
    assert modes.sample(config, workdir) == 0
    said = capsys.readouterr()
    assert "warning: this is the accuracy under the perturbation that the examples have, and no bound" in said.err
    assert "attacks adapt" in said.err
    (folder,) = workdir.samples.iterdir()
    settings = json.loads((folder / "settings.json").read_text())
    part = build(config, workdir.record()).drawing.parts["classifier"]
    logits = part.experiment.system.logits(part.params)
    low, unit = Bytes(False, True, True).units
    with np.load(folder / "samples.npz") as arrays:
        right = np.argmax(logits(jnp.asarray((x - low) / unit, jnp.float32), jnp.float32(1e-3)), -1) == y
        assert arrays["correct_before"].tolist() == right.repeat(2).tolist()
        assert settings["correct"] == arrays["correct"].mean() and settings["frozen"]["classifier"]["run"] == str(run)
    assert f"knows {right.mean():.1%} of x as it is given, and {settings['correct']:.1%}" in said.out
    assert modes.sample(config, workdir) == 0
    said = capsys.readouterr()
    assert "already holds" in said.out and "attacks adapt" in said.err and "knows" in said.out


def test_an_example_is_edited_under_its_own_class_where_none_is_asked_for(tmp_path, small_networks):
    config = edits(tmp_path, data__condition=("label",))
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8, 8, 1)), y=[7, 8, 9])
    conditions = build(config).conditions
    assert np.asarray(conditions(positions(0, 6))["label"]).tolist() == [7, 7, 8, 8, 9, 9]
    config.sampling.label = "3"
    assert set(np.asarray(conditions(positions(0, 6))["label"]).tolist()) == {3}


GOOD = np.zeros((2, 8, 8, 1))
FILES = [
    ({"y": GOOD}, {}, r"has no `x`: np\.savez\(path, x=\.\.\.\), in the data's units"),
    ({"x": np.zeros((2, 4, 4, 1))}, {}, r"has `x` of shape \(2, 4, 4, 1\), .* give \[N, 8, 8, 1\]"),
    ({"x": np.full((2, 8, 8), np.nan)}, {}, r"numbers in `x` that are not finite: mend them"),
    ({"x": GOOD - 1}, {}, r"has x between -1 and -1, .* bytes of 0 to 255: clip it"),
    ({"x": GOOD, "truth": GOOD[:1]}, {}, r"has `truth` of 1 examples and x of 2"),
    ({"x": GOOD, "mask": np.ones((4, 4))}, {}, r"the mask has shape \(4, 4\)"),
    ({"x": GOOD, "mask": np.full((8, 8), 0.5)}, {}, r"a mask is of 1"),
    ({"x": GOOD, "mask": np.ones((8, 8))}, {"name": "purify"}, r"has a mask, which is for editing\.name='edit'"),
    ({"x": GOOD, "y": [1, 10]}, {}, r"give the class of each of the 2 examples, an integer of 0 to 9"),
    ({"x": GOOD, "y": [1.0, 2.0]}, {}, r"y of shape \(2,\) and dtype float64"),
    ({"x": GOOD}, {"name": "purify", "classifier": "runs/a"}, r"has no `y`, the classes that frozen\.classifier is to"),
    ({"x": GOOD[:1]}, {"name": "interpolate"}, r"has 1 examples, .* give an even number"),
    ({"x": GOOD}, {"name": "interpolate", "told": True}, r"has no `y`, the classes under which this network encodes"),
    (
        {"x": GOOD, "mask": np.ones((8, 8))},
        {"solver": "rk45"},
        r"with a solver on a grid, not for 'edit' with one",
    ),
]


@pytest.mark.parametrize(("arrays", "other", "said"), FILES)
def test_files_that_do_not_fit_are_refused(arrays, other, said, tmp_path):
    config = edits(tmp_path)
    config.editing.name = other.get("name", "edit")
    config.frozen.classifier, config.sampling.solver = other.get("classifier", ""), other.get("solver", "ancestral")
    np.savez(tmp_path / "x.npz", **arrays)
    read = lambda: editing.examples(config, Bytes(False, True, True), (8, 8, 1), 10, other.get("told", False))
    with pytest.raises(UsageError, match=said):
        read()
    for content, said in ((b"what", "cannot be read"), (None, "is not a file: name an .npz file with x")):
        (tmp_path / "x.npz").unlink()
        if content:
            (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(UsageError, match=said):
            read()


def test_more_samples_than_are_asked_for_and_a_unit_of_one(tmp_path, small_networks):
    config = edits(tmp_path, sampling__num_samples=7)
    np.savez(tmp_path / "x.npz", x=np.full((3, 8, 8), 0.5))
    found = build(config).drawing.examples
    assert found and found.note.startswith("x lies between 0.5 and 0.5, and the data's units are bytes")
    with pytest.raises(UsageError, match=r"num_samples=7 is more than the 3 examples .* set sampling.num_samples=6"):
        found.check(7)
    np.savez(tmp_path / "x.npz", x=np.full((1, 8, 8), 0.5))
    found = build(config).drawing.examples
    assert found
    found.check(7)


PAIRS = {"editing__name": "interpolate", "sampling__solver": "rk45"}
PURE = {"editing__name": "purify"}
REFUSED = [
    ({"editing__path": ""}, r"editing\.name='edit' has no file: set editing\.path"),
    ({"editing__name": "none"}, r"editing\.path='.*' is for editing, and editing\.name is 'none'"),
    ({"editing__name": "none", "editing__path": ""}, r"editing\.time=0\.5 is for editing"),
    ({"measurement__name": "box", "measurement__path": "y.npz"}, r"and measurement\.name='box' both say"),
    ({"sampling__reference": True, "sampling__churn": 1.0}, r"the official sampler edits nothing"),
    ({"sampling__solver": "auto"}, r"sampling\.solver='auto' with .* name another solver and grid"),
    (
        {"editing__time": 0.0},
        r"editing\.time=0\.0 must lie above sampling\.t_min=0\.001 and not above the",
    ),
    ({"editing__time": 1.5}, r"editing\.time=1\.5 must lie"),
    ({**PURE, "sampling__label": "3", "data__condition": ("label",)}, r"would tell what the classifier is to find"),
    ({**PURE, "data__condition": ("label",)}, r"asks for a score without labels"),
    ({"editing__name": "interpolate"}, r"not by sampling\.solver='ancestral': set it to 'rk45'"),
    ({**PAIRS, "editing__repeats": 2}, r"editing\.repeats=2 has no effect"),
    ({**PAIRS, "editing__samples": 1}, r"editing\.samples=1 leaves nothing between"),
    ({**PAIRS, "data__condition": ("label",)}, r"decodes under a class, .* name it by sampling\.label"),
    ({"editing__name": "edti"}, r"editing\.name='edti' is unknown: did you mean edit"),
    ({"sampling__solver": "ddrm"}, r"holds a measurement"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_go_together_is_refused(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        validate(edits(tmp_path, **changes))


def test_no_other_mode_edits_and_a_grid_must_reach_the_level(tmp_path, small_networks, capsys):
    file = tmp_path / "config.py"
    file.write_text("from tests.tiny import get_config\n")
    x = tmp_path / "x.npz"
    np.savez(x, x=GOOD)
    flags = ["--config.editing.name=edit", f"--config.editing.path={x}", "--config.editing.time=0.5"]
    assert main.main(["launch.py", f"--config={file}", f"--workdir={tmp_path / 'run'}", *flags]) == 2
    assert "editing.name='edit' does not go with --mode=train: --mode=sample edits examples" in capsys.readouterr().err
    chain = {"sde__discrete": True, "parametrization__label": "level", "training__times": "levels"}
    config = edits(tmp_path, **chain, sampling__times="levels", sampling__num_steps=4, sde__num_scales=4)
    config.sde.beta_max, config.editing.time = 3.0, 0.2
    experiment = with_network(build(config), OneConvolution())
    with pytest.raises(UsageError, match=r"editing\.time=0\.2 is to lie on the grid of sampling\.times='levels'"):
        Generator(experiment)(experiment.init_params(), 6, show=False)
