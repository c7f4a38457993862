"""--mode evaluate: figures of samples against data, parts kept and gone on from, damage mended, bad input refused.

What draws is a function of the keys that costs nothing, and features are pixels: what is tested is around them.
"""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from score_sde.cli import evaluating
from score_sde.cli.main import main
from score_sde.data.sources import digits
from score_sde.errors import NotFinite, UsageError
from score_sde.evaluation.frechet import frechet
from score_sde.evaluation.statistics import FeatureSet, load
from score_sde.evaluation.two_sample import to_vectors
from score_sde.experiment import Experiment, build
from score_sde.experiment import evaluating as measured
from score_sde.experiment.feature_folder import FeatureFolder
from score_sde.experiment.generation import Generator
from score_sde.signals import Stopped
from score_sde.solvers.sampling import Samples
from score_sde.storage.workdir import Workdir
from tests.disk import DAMAGES, damage, filled_in_turn, halted_in_turn
from tests.tiny import tiny_config, trained_run

pytestmark = pytest.mark.usefixtures("quick_compilation", "light_network")
COUNT, NAME = 36, "ancestral-4-seed0-step1-36-pixels"


@pytest.fixture(scope="module", autouse=True)
def drawn_for_nothing():
    """Sample k is noise of its own key, spoilt where asked for."""

    def draw(self, params, keys, condition=None, times=None):
        x = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)
        spoilt = (jax.vmap(jax.random.bits)(keys) % 8 == 0) & (self.config.sampling.snr > 1)
        return Samples(jnp.where(spoilt[:, None, None, None], jnp.nan, x), jnp.full(len(keys), 4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "draw", draw)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "run", config())


@pytest.fixture
def run(trained, tmp_path):
    """The same run with a place of its own for what is written."""
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    for name in ("config.json", "seals.json", "checkpoints"):
        (workdir.path / name).symlink_to(trained.path / name)
    return workdir


def config(**changes):
    found = tiny_config(evaluation__num_samples=COUNT, evaluation__features="pixels", evaluation__num_data=200)
    for name, value in changes.items():
        section, _, field = name.partition("__")
        found[section if field else "evaluation"][field or section] = value
    return found


def report(run, name: str = NAME) -> dict:
    return json.loads((run.path / "evaluation" / name / "report.json").read_text())


def timeless(found: dict) -> dict:
    return {name: value for name, value in found.items() if name != "seconds"}


@pytest.fixture(scope="module")
def expected(trained, tmp_path_factory):
    """What an undisturbed run says."""
    workdir = Workdir(tmp_path_factory.mktemp("expected"))
    for name in ("config.json", "seals.json", "checkpoints"):
        (workdir.path / name).symlink_to(trained.path / name)
    assert evaluating.evaluate(config(), workdir) == 0
    return timeless(report(workdir))


def test_the_figures_are_those_of_the_samples(expected):
    x = Generator(build(config()))({}, COUNT, show=False).x
    data = digits().train[np.sort(np.random.RandomState(0).permutation(1500)[:200])]
    distance, error = frechet(to_vectors(x), to_vectors(data))
    assert expected["frechet_distance"] == pytest.approx(distance, rel=1e-9)
    assert expected["frechet_distance_error"] == pytest.approx(error, rel=1e-6)
    assert (expected["num_samples"], expected["num_data"], expected["not_finite"]) == (COUNT, 200, 0)
    assert expected["copying_ratio"] > 1 and expected["inception_score"] is None
    assert (expected["solver"], expected["evaluations"], expected["step"]) == ("ancestral", 4, 1)
    assert (expected["dataset"], expected["split"], expected["features"]) == ("digits", "train", "pixels")


def test_killed_at_any_operation_the_end_is_the_same(run, expected, monkeypatch):
    assert halted_in_turn(lambda: evaluating.evaluate(config(), run), monkeypatch) > 20
    assert timeless(report(run)) == expected


def test_a_disk_that_is_full_from_some_write_on(run, expected, capfd):
    def ended():
        assert timeless(report(run)) == expected

    assert filled_in_turn(lambda: evaluating.evaluate(config(), run), run.path / "evaluation", ended, capfd, 7) > 3


def test_a_signal_ends_it_behind_a_part_and_the_same_command_goes_on(run, expected, monkeypatch):
    keep, kept = FeatureFolder.keep, []

    def signalled(self, index, arrays):
        keep(self, index, arrays)
        kept.append((self.path.name.partition("-")[0], index))
        if kept[-1] == ("ancestral", 1):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(FeatureFolder, "keep", signalled)
    with pytest.raises(Stopped, match="stopped by SIGTERM after 16 of 36 pictures, whose features are kept; the same"):
        evaluating.evaluate(config(), run)
    assert evaluating.evaluate(config(), run) == 0
    assert [index for name, index in kept if name == "ancestral"] == [0, 1, 2, 3, 4]
    assert timeless(report(run)) == expected


@pytest.mark.parametrize("name", ["report.json", "statistics.npz", "settings.json"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_results_are_named_and_made_again(run, expected, capsys, name, kind):
    assert evaluating.evaluate(config(), run) == 0
    damage(run.path / "evaluation" / NAME / name, kind)
    capsys.readouterr()
    assert evaluating.evaluate(config(), run) == 0
    fault = "missing" if kind == "gone" else "damaged"
    assert f"{name} is {fault}: it is made again" in capsys.readouterr().err
    assert timeless(report(run)) == expected


def test_a_finished_evaluation_is_told_again_and_another_one_not_mixed(run, capsys, monkeypatch):
    assert evaluating.evaluate(config(), run) == 0
    told = capsys.readouterr().out
    monkeypatch.setattr(FeatureFolder, "keep", None)
    assert evaluating.evaluate(config(), run) == 0
    assert capsys.readouterr().out == told
    monkeypatch.undo()
    with pytest.raises(UsageError, match="holds an evaluation of other settings: add --overwrite"):
        evaluating.evaluate(config(num_data=150), run)
    assert evaluating.evaluate(config(num_data=150), run, overwrite=True) == 0
    assert report(run)["num_data"] == 150


def test_several_averages_and_checkpoints_over_one_set_of_data(run, capsys):
    assert evaluating.evaluate(config(checkpoints="all", averages=("warmup", "raw")), run) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].split()[:4] == ["samples", "n", "Fréchet", "kernel"]
    assert [line.split()[0] for line in lines[1:]] == [NAME.replace("-step", f"-{a}-step") for a in ("warmup", "raw")]
    folders = sorted(p.name.partition("-")[0] for p in (run.path / "evaluation").iterdir() if p.is_dir())
    assert folders == ["ancestral", "ancestral", "held_out", "train"]


def test_samples_that_are_not_finite_are_counted_and_left_out(run):
    with pytest.raises(NotFinite, match="of the samples, or of their features, are not finite, and in no figure; "):
        evaluating.evaluate(config(sampling__snr=2.0, keep_features=True), run)
    found = report(run)
    assert 0 < found["not_finite"] < COUNT and found["num_samples"] == COUNT - found["not_finite"]
    kept, _ = load(run.path / "evaluation" / NAME / "statistics.npz")
    assert kept.features is not None and len(kept.features) == found["num_samples"]


def test_pictures_at_a_path_need_no_run(tmp_path, capsys):
    """From the command line, against a split and against other pictures; the file of statistics is taken too."""
    images = digits().held_out[:60]
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(np.repeat(image, 3, axis=-1)).save(tmp_path / "pictures" / f"{i}.png")
    np.savez(tmp_path / "given.npz", samples=np.repeat(images, 3, axis=-1))
    command = ["launch.py", "--config", "digits", "--mode", "evaluate", "--config.evaluation.features=pixels"]
    command += ["--workdir", str(tmp_path / "here")]

    def of(samples: str, against: str) -> list[str]:
        return [f"--config.evaluation.{n}={tmp_path / v}" for n, v in (("samples", samples), ("against", against))]

    assert main([*command, *of("pictures", "given.npz")]) == 0
    found = report(Workdir(tmp_path / "here"), "pictures-pixels")
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-9) and found["num_data"] == 60
    data = next((tmp_path / "here" / "evaluation").glob("data-*/statistics.npz"))
    assert main([*command, *of("given.npz", str(data))]) == 0
    assert report(Workdir(tmp_path / "here"), "given-pixels")["kernel_distance"] < 0
    assert not (tmp_path / "here" / "checkpoints").exists()


def test_sizes_that_differ_are_told(tmp_path, capsys):
    rows = {"height": np.array([8, 4, 9]), "width": np.array([8, 5, 9])}
    assert measured._of_sizes(rows) == ["pictures of several sizes, from 4x5 to 9x9, each resized"]
    assert measured._of_sizes({"height": np.array([8, 8]), "width": np.array([8, 8])}) == measured._of_sizes({}) == []


def test_moments_of_another_program(run, tmp_path, capsys):
    """The Fréchet distance alone, and a warning of what the file does not say."""
    moments = FeatureSet.of(to_vectors(digits().train), {}).moments
    np.savez(tmp_path / "fid.npz", mu=moments.mean, sigma=moments.covariance)
    assert evaluating.evaluate(config(against=str(tmp_path / "fid.npz")), run) == 0
    said = capsys.readouterr()
    assert "is another program's and does not say its preprocessing, weights" in said.err
    assert "against moments alone there is the Fréchet distance only" in said.out
    found = report(run)
    assert found["frechet_distance"] > 0 and found["kernel_distance"] is None and found["num_data"] == 0


BAD = {
    "checkpoints": ("5", r"asks for \[5\]: there are \[1\]"),
    "checkpoints ": ("newest", "must be all, or steps such as 1000,2000"),
    "features": ("inceptoin", "is unknown: name inception, pixels or a function"),
    "against": ("no_such_file", "is no file: name it, or one of held_out, train"),
    "samples": ("no_such_file", "no_such_file does not exist: name a folder"),
    "weights": ("no_such_file", "cannot be read"),
    "averages": (("nope",), r"evaluation\.averages='nope' is not among this run's averages"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(run, name):
    value, message = BAD[name]
    changes = {"features": "inception"} if name == "weights" else {}
    with pytest.raises(UsageError, match=message):
        evaluating.evaluate(config(**changes | {name.strip(): value}), run)
    assert not list((run.path / "evaluation").glob("*/report.json"))


@pytest.mark.parametrize("field", ["num_samples", "num_data"])
def test_one_picture_has_no_covariance(field, capsys):
    command = ["launch.py", "--config", "digits", "--mode", "evaluate", f"--config.evaluation.{field}=1"]
    assert main(command) == 2
    assert f"evaluation.{field}=1 has no covariance" in capsys.readouterr().err
