"""A report on a full disk, killed, of damaged records and of what is not finite. What is measured is made up."""

import json
import os
import shutil

import numpy as np
import pytest

from score_sde.data.kinds import Bytes
from score_sde.data.sources import digits
from score_sde.errors import NotFinite
from score_sde.experiment import build
from score_sde.reporting import figures, measure, report
from score_sde.reporting.measure import Drawn, NoiseLevels, Path, Yardstick
from score_sde.reporting.records import curves, log
from score_sde.reporting.sections import distances, neighbours, result, samples, training, trajectories
from score_sde.reporting.sections import noise_levels as section_of_levels
from score_sde.storage.seals import Seals
from score_sde.storage.workdir import Workdir
from tests.disk import DAMAGES, damage, exit_code, filling, halted_in_turn
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("light_network")
BYTES = Bytes(flip=False, dequantization=False, centered=True)


def drawn(spoilt: int = 0, count: int = 16) -> Drawn:
    finite = np.arange(count) >= spoilt
    return Drawn(digits().held_out[:count] * finite[:, None, None, None], 5.0, 0.001, finite)


def levels(bad: int = 0) -> NoiseLevels:
    """Four levels, at the last of which so many of 8 images are not finite."""
    values = np.array([1.0, 0.8, 0.5, np.nan if bad == 8 else 0.2])
    estimate = values, np.full(4, 0.01)
    return NoiseLevels(np.linspace(1, 0.1, 4), np.linspace(-8, 4, 4), *[estimate] * 3, 8, np.array([0, 0, 0, bad]))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A report in tmp_path/run of made-up measurements; its exit code."""
    experiment = build(tiny_config())
    monkeypatch.setattr(measure, "draw", lambda experiment, params, count, grids=None: drawn())
    monkeypatch.setattr(measure, "noise_levels", lambda *_: levels())
    monkeypatch.setattr(report, "_paths", lambda *_: {})
    monkeypatch.setattr(report.sections, "trajectories", lambda *_: report.Section("Trajectory", "none"))
    for name in ("samples", "distances", "noise_levels", "training", "likelihood"):
        monkeypatch.setattr(figures, name, lambda *_, **__: None)
    monkeypatch.setattr(figures, "png", lambda figure: b"a picture")
    data = report.Data.of(experiment)
    monkeypatch.setattr(report.Data, "of", lambda _: data)
    monkeypatch.setattr(report.rows, "rows", lambda experiment: [])
    monkeypatch.setattr(report, "facts", lambda *_: {"run": "run"})

    def act() -> int:
        path = report.report(experiment, {}, 1, Workdir(tmp_path / "run"), "launch")
        assert path == tmp_path / "run" / "report" / "index.html"
        return 0

    return act


def contents(run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "report").iterdir()}


def test_every_file_is_sealed(make, tmp_path):
    make()
    names = set(contents(tmp_path / "run")) - {"seals.json"}
    assert {"index.html", "numbers.json", "samples.png", "distance.png"} <= names
    assert set(Seals(tmp_path / "run" / "report").names()) == names
    assert Seals(tmp_path / "run" / "report").whole(*names)


def test_a_disk_that_is_full_from_any_write_on(make, tmp_path, capfd):
    make()
    expected, full_at, fills = contents(tmp_path / "run"), 1, 0
    while True:
        if full_at % 2:  # every other time over an earlier one
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with filling(full_at, tmp_path / "run") as disk:
            code = exit_code(make)
        if disk.writes < full_at:
            break
        said = capfd.readouterr().err
        assert code == 5 and said.count("score-sde: ") == 1 and "No space left on device" in said
        if Seals(tmp_path / "run" / "report").whole("index.html"):
            assert contents(tmp_path / "run") == expected  # the earlier one
        fills += 1
        assert exit_code(make) == 0 and contents(tmp_path / "run") == expected
        full_at += 1
    assert fills > 10


def test_killed_at_any_operation_the_next_one_is_whole(make, tmp_path, monkeypatch):
    make()
    expected = contents(tmp_path / "run")
    assert halted_in_turn(make, monkeypatch) >= 10
    assert contents(tmp_path / "run") == expected


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_report_is_made_again(make, tmp_path, kind):
    make()
    expected = contents(tmp_path / "run")
    for name in expected:
        damage(tmp_path / "run" / "report" / name, kind)
        make()
        assert contents(tmp_path / "run") == expected


LINES = [json.dumps({"step": 5 * i, "loss": 1 / i, "gradient_norm": 2.0 * i}) for i in range(1, 9)]


def test_any_damage_to_the_log_is_counted_and_the_rest_shown(tmp_path):
    """200 flips, cuts and insertions of other bytes: never an error, never more lines lost than were touched."""
    path, draw = tmp_path / "metrics.jsonl", np.random.default_rng(0)
    whole = ("\n".join(LINES) + "\n").encode()
    for _ in range(200):
        kind, place = draw.integers(3), int(draw.integers(len(whole)))
        flipped = whole[:place] + bytes([whole[place] ^ (1 << int(draw.integers(8)))]) + whole[place + 1 :]
        path.write_bytes((flipped, whole[:place], whole[:place] + b"\xff\n\x00[1]\n" + whole[place:])[kind])
        found = log(path)
        assert len(found.curves.get("loss", [()])[0]) >= (whole[:place].count(b"\n") if kind == 1 else len(LINES) - 2)
        assert all(np.isfinite(values).all() for _, values in found.curves.values())
    for other in (b"null", b"[]", b'{"step": true}', b'{"step": 1e400}', b'{"step": "1"}', b"\xff\xfe", b"[" * 9999):
        path.write_bytes(whole + other + b"\n")
        assert log(path).damaged == (other != b'{"step": true}') and log(path).lines == 9
        assert len(curves(path)["loss"][0]) == 8


def test_what_the_log_leaves_out_is_said(tmp_path):
    more = ['{"step": 45, "loss": null}', '{"step": 50, "loss": NaN}', "damaged"]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*LINES, *more]) + "\n")
    caption = training(log(tmp_path / "metrics.jsonl")).caption
    assert "1 of 11 lines of metrics.jsonl are damaged and left out" in caption
    assert "2 of 11 lines have no finite loss" in caption
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\n\xfe\n")
    section = training(log(tmp_path / "metrics.jsonl"))
    assert "2 of 2 lines" in section.caption and not section.png


def test_figures_without_what_is_not_finite_say_so():
    """In the samples' caption, the distances', and the neighbours'; figures are those of the rest alone."""
    yardstick = Yardstick(BYTES, digits().train)
    some, none = result(drawn(3), yardstick), result(drawn(16), yardstick)
    assert some.distance == yardstick(digits().held_out[3:16])[0] and some.not_finite == 3
    assert none.distance is None and none.neighbours["precision"] is None
    results = {"a": {5: some}, "b": {5: none}}
    for made in (samples(results, 0), distances(results, 16, yardstick, None, {})):
        assert "3 of 16 samples of a with 5 evaluations; 16 of 16 samples of b" in made.caption and made.png
    assert not distances({"b": {5: none}}, 16, yardstick, None, {}).png
    assert [row[0] for row in neighbours(results).table.rows] == ["a", "b"]
    greys = [len(np.unique(result(drawn(bad), yardstick).picture[1:49, 1:49])) for bad in (0, 1)]
    assert greys[0] > greys[1] == 2  # a chequerboard


@pytest.mark.filterwarnings("error")
def test_noise_levels_and_paths_that_are_not_finite_are_said():
    assert "not finite" not in section_of_levels(levels(), True).caption
    for bad in (3, 8):
        made = section_of_levels(levels(bad), True)
        assert f"the score of up to {bad} of 8 images at log-SNR 4.0 to 4.0" in made.caption and made.png
    x = np.zeros((3, 8, 8, 1))
    x[1, 2, 2] = np.nan
    t = np.linspace(1, 0.1, 3)
    walked = Path(t, t, t, t, x, np.full_like(x, np.inf))
    assert "4 of 6 pictures have numbers that are not finite" in trajectories({"euler": walked}, True).caption


def test_a_report_of_what_is_not_finite_is_written_and_then_said(make, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "draw", lambda *_: drawn(2))
    monkeypatch.setattr(measure, "noise_levels", lambda *_: levels(8))
    with pytest.raises(
        NotFinite, match=r"index.html is written, without what is not finite: 2 of 16 samples of as conf"
    ):
        make()
    assert exit_code(make) == 6
    json.loads((tmp_path / "run" / "report" / "numbers.json").read_text(), parse_constant=pytest.fail)


def test_one_training_image_has_no_covariance(monkeypatch, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8, 1), np.uint8))
    config = tiny_config(data__name="array", data__path=os.fspath(tmp_path / "one.npy"))
    data = report.Data.of(build(config, record={}))
    assert data.yardstick is None and "one training example" in data.missing
