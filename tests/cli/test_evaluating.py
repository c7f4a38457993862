"""--mode evaluate: figures of samples against data, parts kept and gone on from, damage mended, bad input refused.

What draws is a function of the keys that costs nothing, and features are pixels: what is tested is around them.
"""

import contextlib
import importlib
import json
import signal
import sys

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
from tests.remembered import remembered
from tests.tiny import tiny_config, trained_run

pytestmark = pytest.mark.usefixtures("light_network")
COUNT, NAME = 36, "ancestral-4-seed0-step1-36-pixels-bytes"


@pytest.fixture(scope="module", autouse=True)
def drawn_for_nothing():
    """Sample k is noise of its own key, spoilt where asked for."""

    def draw(self, params, keys, condition=None, times=None):
        x = jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)
        spoilt = (jax.vmap(jax.random.bits)(keys) % 8 == 0) & (self.config.sampling.snr > 1)
        return Samples(jnp.where(spoilt[:, None, None, None], jnp.nan, x), jnp.full(len(keys), 4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "draw", draw)
        with remembered():
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


def folder(run, name: str = NAME):
    """The one whose name begins so."""
    (found,) = (run.path / "evaluation").glob(f"{name}-????????")
    return found


def report(run, name: str = NAME) -> dict:
    return json.loads((folder(run, name) / "report.json").read_text())


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
    damage(folder(run) / name, kind)
    capsys.readouterr()
    assert evaluating.evaluate(config(), run) == 0
    fault = "missing" if kind == "gone" else "damaged"
    assert f"{name} is {fault}: it is made again" in capsys.readouterr().err
    assert timeless(report(run)) == expected


def test_a_finished_evaluation_is_told_again_and_another_one_stands_beside_it(run, capsys, monkeypatch):
    assert evaluating.evaluate(config(), run) == 0
    told = capsys.readouterr().out
    monkeypatch.setattr(FeatureFolder, "keep", None)
    assert evaluating.evaluate(config(), run) == 0
    assert capsys.readouterr().out == told
    monkeypatch.undo()
    assert evaluating.evaluate(config(num_data=150), run) == 0
    found = [json.loads(file.read_text()) for file in (run.path / "evaluation").glob(f"{NAME}-*/report.json")]
    assert sorted(r["num_data"] for r in found) == [150, 200]


def test_features_that_are_asked_for_afterwards_are_made(run):
    assert evaluating.evaluate(config(), run) == 0
    before = timeless(report(run))
    for keep in (True, False):
        assert evaluating.evaluate(config(keep_features=keep), run) == 0
        assert load(folder(run) / "statistics.npz")[0].features is not None
    assert timeless(report(run)) == before


def test_begun_with_overwrite_it_goes_on_with_overwrite(tmp_path):
    there, ours = (FeatureFolder(tmp_path, {"of": name}, ()) for name in ("others", "ours"))
    there.resume(False)
    there.finish()
    assert ours.resume(True) == 0
    ours.keep(0, {"x": np.ones(1)})
    assert ours.resume(True) == 1
    with pytest.raises(UsageError, match="holds an evaluation of other settings"):
        ours.resume(False)


def test_several_averages_and_checkpoints_over_one_set_of_data(run, capsys):
    assert evaluating.evaluate(config(checkpoints="all", averages=("warmup", "raw")), run) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].split()[:4] == ["samples", "n", "Fréchet", "kernel"]
    names = [line.split()[0].rpartition("-")[0] for line in lines[1:]]
    assert names == [NAME.replace("-step", f"-{a}-step") for a in ("warmup", "raw")]
    folders = sorted(p.name.partition("-")[0] for p in (run.path / "evaluation").iterdir() if p.is_dir())
    assert folders == ["ancestral", "ancestral", "held_out", "train"]


def test_samples_that_are_not_finite_are_counted_and_left_out(run):
    with pytest.raises(NotFinite, match="of the samples, or of their features, are not finite, and in no figure; "):
        evaluating.evaluate(config(sampling__snr=2.0, keep_features=True), run)
    found = report(run)
    assert 0 < found["not_finite"] < COUNT and found["num_samples"] == COUNT - found["not_finite"]
    kept, _ = load(folder(run) / "statistics.npz")
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
    found = report(Workdir(tmp_path / "here"), "pictures-pixels-bytes")
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-9) and found["num_data"] == 60
    data = next((tmp_path / "here" / "evaluation").glob("data-*/statistics.npz"))
    assert main([*command, *of("given.npz", str(data))]) == 0
    assert report(Workdir(tmp_path / "here"), "given-pixels-bytes")["kernel_distance"] < 0
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


def path_config(tmp_path, samples, against="train", **changes):
    """Of two arrays, or of the digits."""
    np.save(tmp_path / "samples.npy", samples)
    if not isinstance(against, str):
        np.save(tmp_path / "against.npy", against)
        against = str(tmp_path / "against.npy")
    return config(samples=str(tmp_path / "samples.npy"), against=against, **changes)


RANDOM = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("what", ["samples", "against", "finite", "function"])
def test_what_is_replaced_under_the_same_name_is_measured_again(tmp_path, monkeypatch, what):
    """Pictures of the same sizes in a folder, which of them are finite, a function that was edited."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_own", raising=False)
    for name in ("samples", "against"):
        (tmp_path / name).mkdir()
    code = "def f(x):\n    return x.reshape(len(x), -1)[:, :5] * {}"

    def write(number: int) -> None:
        for name, rows in (("samples", RANDOM[:20]), ("against", RANDOM[20:])):
            for i, picture in enumerate(np.roll(rows, number * (name == what), axis=1)[..., 0]):
                Image.fromarray(picture).save(tmp_path / name / f"{i}.bmp")
        finite = np.arange(40) >= 10 * number
        np.savez(tmp_path / "all.npz", samples=RANDOM, finite=finite)
        (tmp_path / "mine_own.py").write_text(code.format(1.0 + number))
        importlib.invalidate_caches()
        sys.modules.pop("mine_own", None)

    samples = str(tmp_path / ("all.npz" if what == "finite" else "samples"))
    changes = {"samples": samples, "against": str(tmp_path / "against"), "keep_features": True}
    if what == "function":
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        changes["features"] = "mine_own.f"
    found = []
    for number in (0, 1):
        write(number)
        with contextlib.suppress(NotFinite):
            evaluating.evaluate(config(**changes), Workdir(tmp_path / "run"))
        reports = (tmp_path / "run" / "evaluation").glob("*/report.json")
        found.append({json.loads(file.read_text())["frechet_distance"] for file in reports})
    assert len(found[0]) == 1 and len(found[1]) == 2


def test_real_numbers_are_standardised_as_the_data_are_and_stored_against_others(tmp_path):
    x = np.random.default_rng(1).normal(7, 5, (60, 8, 8, 1)).astype(np.float32)
    np.save(tmp_path / "data.npy", x)
    own = {"data__name": "array", "data__path": str(tmp_path / "data.npy"), "evaluation__num_data": 0}
    for samples, against, scale in ((x[:30], "train", "standardised"), (x[:30], x[30:], "stored")):
        workdir = Workdir(tmp_path / scale)
        assert evaluating.evaluate(path_config(tmp_path, samples, against, **own), workdir) == 0
        found = report(workdir, f"samples-pixels-{scale}")
        shown = (lambda v: (v - x.mean()) / x.std()) if scale == "standardised" else np.asarray
        expected = frechet(to_vectors(shown(samples)), to_vectors(shown(x if scale == "standardised" else x[30:])))
        assert found["frechet_distance"] == pytest.approx(expected.value, rel=1e-4)
        assert found["preprocessing"] == scale


REFUSED = {
    "shapes": (RANDOM, np.repeat(RANDOM, 3, -1), "has pictures of .* and the samples have 64: give"),
    "scales": (RANDOM / np.float32(255), RANDOM, "pictures of uint8 cannot be compared with others of real numbers"),
    "one": (RANDOM[:1], RANDOM, "holds 1 picture, which has no covariance"),
    "one there": (RANDOM, RANDOM[:1], "evaluation.against=.* holds 1 picture, which has no covariance"),
    "nothing": (RANDOM, "", "evaluation.against is empty: name a file"),
    "huge": (np.zeros((2, 80, 80, 3), np.uint8), "train", "are 19,200 dimensions, more than 16,384"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_before_anything_is_measured(tmp_path, name):
    samples, against, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        evaluating.evaluate(path_config(tmp_path, samples, against), Workdir(tmp_path / "run"))
    assert not (tmp_path / "run" / "evaluation").exists()


def test_statistics_of_other_dimensions_and_pictures_of_several_sizes(tmp_path):
    np.savez(tmp_path / "fid.npz", mu=np.zeros(5), sigma=np.eye(5))
    with pytest.raises(UsageError, match="is of features of 5 dimensions, and those of the samples have 64"):
        evaluating.evaluate(path_config(tmp_path, RANDOM, str(tmp_path / "fid.npz")), Workdir(tmp_path / "run"))
    (tmp_path / "in").mkdir()
    for i, side in enumerate((4, 5)):
        Image.fromarray(RANDOM[i, :side, :side, 0]).save(tmp_path / "in" / f"{i}.png")
    with pytest.raises(UsageError, match=r"has pictures of several sizes, as \(4, 4, 1\) and \(5, 5, 1\)"):
        evaluating.evaluate(config(samples=str(tmp_path / "in")), Workdir(tmp_path / "run"))


def test_grey_files_are_compared_with_grey_data(tmp_path):
    (tmp_path / "in").mkdir()
    for i, image in enumerate(digits().held_out[:50]):
        Image.fromarray(image[..., 0]).save(tmp_path / "in" / f"{i}.png")
    assert evaluating.evaluate(config(samples=str(tmp_path / "in")), Workdir(tmp_path / "run")) == 0
    assert report(Workdir(tmp_path / "run"), "in-pixels-bytes")["num_samples"] == 50


def test_samples_none_of_which_is_finite(tmp_path):
    good = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype(np.float32)
    bad = np.full_like(good, np.nan)
    with pytest.raises(NotFinite, match="40 of 40 samples, or of their features, are not finite"):
        evaluating.evaluate(path_config(tmp_path, bad, good), Workdir(tmp_path / "run"))
    with pytest.raises(UsageError, match="has 0 pictures of 40 whose features are finite"):
        evaluating.evaluate(path_config(tmp_path, good, bad), Workdir(tmp_path / "other"))


BAD = {
    "checkpoints": ("5", r"asks for \[5\]: there are \[1\]"),
    "checkpoints ": ("newest", "must be all, or steps such as 1000,2000"),
    "features": ("inceptoin", "is unknown: name inception, pixels or a function"),
    "against": ("no_such_file", "is no file: name it, or one of held_out, train"),
    "samples": ("no_such_file", "no_such_file does not exist: name a folder"),
    "weights": ("no_such_file", "cannot be read"),
    "samples ": ("some.npy", "are of no run: leave evaluation.checkpoints and evaluation.averages empty"),
    "averages": (("nope",), r"evaluation\.averages='nope' is not among this run's averages"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(run, name):
    value, message = BAD[name]
    changes = {"weights": {"features": "inception"}, "samples ": {"checkpoints": "all"}}.get(name, {})
    with pytest.raises(UsageError, match=message):
        evaluating.evaluate(config(**changes | {name.strip(): value}), run)
    assert not list((run.path / "evaluation").glob("*/report.json"))


@pytest.mark.parametrize("field", ["num_samples", "num_data"])
def test_one_picture_has_no_covariance(field, capsys):
    command = ["launch.py", "--config", "digits", "--mode", "evaluate", f"--config.evaluation.{field}=1"]
    assert main(command) == 2
    assert f"evaluation.{field}=1 has no covariance" in capsys.readouterr().err
