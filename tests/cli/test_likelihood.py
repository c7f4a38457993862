"""--mode likelihood: rows kept and gone on from, damage named and mended, what is not finite counted.

What an image's figures are is a function of its number: what is tested is around it.
"""

import json
import os
import pathlib
import shutil
import signal

import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.cli.likelihood import likelihood
from score_sde.errors import NotFinite, UsageError
from score_sde.evaluation.likelihoods import LikelihoodFolder, describe
from score_sde.evaluation.per_image import PerImage
from score_sde.experiment.image_likelihood import ImageLikelihood, Pilot
from score_sde.reporting.records import likelihoods
from score_sde.reporting.sections import likelihood as section
from score_sde.signals import Stopped
from score_sde.storage.locks import locked
from score_sde.storage.workdir import Workdir
from tests.disk import DAMAGES, damage, filled_in_turn, halted_in_turn
from tests.remembered import remembered
from tests.tiny import tiny_config, trained_run

pytestmark = pytest.mark.usefixtures("light_network")
COUNT, SIZE = 20, 8
FILES = ("per_image.csv", "per_image.csv.seals.json", "pilot.json", "seals.json", "settings.json", "summary.json")
PILOT = Pilot((1e-5, 0.1, 0.5, 1.0), 8, 2e-4, 1e-4, 421.5)


def rows_of(numbers: np.ndarray) -> np.ndarray:
    """Figures of images with these numbers, as long as their digits."""
    noise = np.random.default_rng(0).normal(size=(2000, 4))[numbers]
    return np.column_stack([numbers, 4 + noise[:, 0], abs(noise[:, 1]), 5 + noise[:, 2], abs(noise[:, 3]), numbers % 7])


@pytest.fixture(scope="module", autouse=True)
def computed_for_nothing():
    def call(self, params, source, numbers, given=None, done=0, pilot=None):
        assert pilot == PILOT
        for first in range(done, len(numbers), SIZE):
            rows = rows_of(np.asarray(numbers[first : first + SIZE]))
            spoilt = self._experiment.config.likelihood.seed == 1
            rows[:, 1] = np.where(spoilt & (rows[:, 0] % 3 == 0), np.nan, rows[:, 1])
            rows[:, 3] = np.where(spoilt & (rows[:, 0] % 3 == 1), np.inf, rows[:, 3])
            yield rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageLikelihood, "__call__", call)
        patch.setattr(ImageLikelihood, "pilot", lambda *arguments: PILOT)
        with remembered():
            yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("runs") / "run", config())


@pytest.fixture
def run(trained):
    yield trained
    shutil.rmtree(trained.path / "likelihood", ignore_errors=True)


def config(**changes):
    found = tiny_config()
    found.likelihood.update({"num_images": COUNT, "batch_size": SIZE} | changes)
    return found


@pytest.fixture(scope="module")
def expected(trained):
    """What an undisturbed run writes, by file."""
    assert likelihood(config(), trained) == 0
    found = contents(trained)
    shutil.rmtree(trained.path / "likelihood")
    return found


def contents(workdir: Workdir) -> dict[str, bytes]:
    folder = workdir.path / "likelihood"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "lock"])
    return {name: (folder / name).read_bytes() for name in FILES}


def put(workdir: Workdir, files: dict[str, bytes]) -> pathlib.Path:
    folder = workdir.path / "likelihood"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_the_summary_is_of_all_rows(expected):
    lines = expected["per_image.csv"].splitlines()
    assert len(lines) == 1 + COUNT
    found = json.loads(expected["summary.json"])
    rows = rows_of(np.array([int(line.split(b",")[0]) for line in lines[1:]]))
    assert found["num_images"] == COUNT and found["not_finite"] == found["bound_not_finite"] == 0
    assert found["bits_per_dim"] == pytest.approx(rows[:, 1].mean(), rel=1e-7)
    assert found["pilot"] == {**PILOT._asdict(), "times": len(PILOT.times)}
    assert "4 nodes, off rk45 by +0.0002 +-0.0001 bits/dim on 8 examples" in describe(found)
    assert "solved by rk45: no grid" in describe(found | {"pilot": found["pilot"] | {"times": 0}})


def test_a_disk_that_is_full_from_any_write_on(run, expected, capfd):
    def ended():
        assert contents(run) == expected

    assert filled_in_turn(lambda: likelihood(config(), run), run.path / "likelihood", ended, capfd) > 20


@pytest.mark.parametrize("overwriting", [False, True])
def test_killed_at_any_operation_the_end_is_bitwise_the_same(run, expected, monkeypatch, overwriting):
    """All of them in turn: each start is halted one operation later than the one before; over other figures, too."""
    if overwriting:
        assert likelihood(config(seed=7), run) == 0
    assert halted_in_turn(lambda: likelihood(config(), run, overwriting), monkeypatch) > 10
    assert contents(run) == expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("place", [0.1, 0.9])
def test_what_is_damaged_is_named_and_made_again(run, expected, capsys, name, kind, place):
    folder = put(run, expected)
    damage(folder / name, kind, place)
    assert likelihood(config(), run) == 0
    said = capsys.readouterr().err
    assert contents(run) == expected
    if name == "per_image.csv.seals.json":
        seals = "no seals" if kind == "gone" else "damaged seals"
        assert f"per_image.csv has {seals}: 0 whole rows are kept, the others computed again" in said
    elif name == "seals.json":
        assert "settings.json is not sealed" in said
    else:
        assert f"{folder / name} is {'missing' if kind == 'gone' else 'damaged'}" in said
    assert likelihood(config(), run) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_rows_cost_what_follows_them_alone(run, expected, monkeypatch, kind):
    folder, appended, append = put(run, expected), [], PerImage.append
    damage(folder / "per_image.csv", kind, 0.6)
    monkeypatch.setattr(PerImage, "append", lambda self, rows: (appended.append(len(rows)), append(self, rows)))
    assert likelihood(config(), run) == 0
    assert appended == ([SIZE, 4] if kind in ("cut", "flipped") else [SIZE, SIZE, 4])


def test_damaged_settings_are_told_from_others(run, expected):
    """Of other settings the rows are refused, whether settings.json is damaged or not."""
    folder = put(run, expected)
    for kind in (None, *DAMAGES):
        put(run, expected)
        if kind:
            damage(folder / "settings.json", kind)
        with pytest.raises(UsageError, match="add --overwrite, or move it away") as error:
            likelihood(config(seed=3), run)
        assert ("settings.json is" in str(error.value)) == bool(kind)
        assert (folder / "per_image.csv").read_bytes() == expected["per_image.csv"]
    assert likelihood(config(seed=3), run, overwrite=True) == 0


def test_a_folder_of_earlier_versions_goes_on(run, expected, capsys):
    """Without seals, its rows are kept, and sealed."""
    lines = expected["per_image.csv"].splitlines(keepends=True)
    put(run, {"per_image.csv": b"".join(lines[:12]) + lines[12][:5], "settings.json": expected["settings.json"]})
    assert likelihood(config(), run) == 0
    assert "which sealed nothing: 11 whole rows are kept" in capsys.readouterr().err
    assert contents(run)["per_image.csv"] == expected["per_image.csv"]


def test_a_signal_ends_it_behind_a_batch_and_the_same_command_goes_on(run, expected, monkeypatch, capsys):
    append, appended = PerImage.append, []

    def signalled(self, rows):
        append(self, rows)
        appended.append(len(rows))
        if len(appended) == 1:
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(PerImage, "append", signalled)
    with pytest.raises(Stopped, match="stopped by SIGHUP after 8 of 20 images, which are kept; the same command") as e:
        likelihood(config(), run)
    assert e.value.code == 129
    assert likelihood(config(), run) == 0
    assert appended == [8, 8, 4] and contents(run) == expected
    assert capsys.readouterr().err == ""


def test_two_programs_do_not_write_one_folder(run):
    with locked(run.path / "likelihood"), pytest.raises(UsageError, match=f"being written by process {os.getpid()}"):
        likelihood(config(), run)


def test_what_is_not_finite_is_counted_and_left_out(run, capsys):
    """In the file, the summary, what is said, the exit code and the report; a second start says so again."""
    for _ in range(2):
        with pytest.raises(NotFinite, match="of 20 images have a figure that is not finite") as error:
            likelihood(config(seed=1), run)
        assert "likelihood.average='raw'" in str(error.value)
    assert modes.ended(lambda: likelihood(config(seed=1), run)) == 6
    text = (run.path / "likelihood" / "summary.json").read_text()
    summary = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    table = PerImage(run.path / "likelihood" / "per_image.csv", LikelihoodFolder(run.path, {}).table.columns).rows()
    for column, name, count in ((1, "bits_per_dim", "not_finite"), (3, "bound", "bound_not_finite")):
        finite = table[np.isfinite(table[:, column]), column]
        assert summary[count] == COUNT - len(finite) > 0
        assert summary[name] == pytest.approx(finite.mean())
    assert f"{summary['not_finite']} of 20 images left out, whose figure is not finite" in capsys.readouterr().out
    found = likelihoods(run.path / "likelihood")
    assert found.not_finite == summary["not_finite"] + summary["bound_not_finite"]
    assert np.isfinite(found.values).all() and np.isfinite(found.bound).all()
    made = section(found, "")
    assert (
        f"without what is not finite: the likelihood or bound of {found.not_finite} images" in made.caption and made.png
    )


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", ["per_image.csv", "per_image.csv.seals.json"])
def test_the_report_reads_what_is_whole(run, expected, name, kind):
    folder = put(run, expected)
    damage(folder / name, kind, 0.6)
    found = likelihoods(folder)
    if name == "per_image.csv" and kind in ("cut", "flipped"):
        assert len(found.values) == SIZE and "is damaged" in section(found, "launch").caption
    else:
        assert found is None and "launch --mode likelihood" in section(found, "launch").caption
