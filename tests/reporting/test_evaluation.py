"""What a report shows of evaluations: all in a table, those of one kind in a figure, the damaged by name."""

import json
import pathlib

import pytest

from score_sde.reporting import evaluations as module
from score_sde.reporting.evaluations import evaluation
from score_sde.reporting.records import Evaluations, evaluations
from score_sde.storage.seals import Seals

COMMAND = "python launch.py --config configs/digits.py"


def report(**changes) -> dict:
    found = {
        "frechet_distance": 5.25, "frechet_distance_error": 0.5, "kernel_distance": 0.001, "precision": None,
        "num_samples": 1000, "num_data": 1500, "not_finite": 0, "features": "inception", "preprocessing": "tf1",
        "fingerprint": "f00", "dataset": "digits", "split": "train", "evaluations": 20.0, "seconds": 30.0,
        "solver": "ancestral", "step": 1000, "notes": [],
    }  # fmt: skip
    return found | changes


def kept(folder: pathlib.Path, name: str, content: dict) -> pathlib.Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps(content))
    Seals(place).seal("report.json")
    return place / "report.json"


def test_whole_reports_are_read_and_others_named(tmp_path):
    kept(tmp_path, "a", report())
    kept(tmp_path, "b", report()).write_text("{}")
    (tmp_path / "train-inception").mkdir()
    assert evaluations(tmp_path) == Evaluations({"a": report()}, ("b",))
    assert evaluations(tmp_path / "none") == Evaluations({})


def test_those_of_one_kind_are_points_of_a_figure():
    reports = {
        "a": report(),
        "b": report(evaluations=50.0, frechet_distance=4.0),
        "c": report(preprocessing="clean"),
        "d": report(evaluations=None, kernel_distance=-1e-5, solver=None),
    }
    section = evaluation(Evaluations(reports, ("e",)), COMMAND)
    assert section.png.startswith(b"\x89PNG")
    assert "The figure: 1,000 samples against 1,500 of digits by inception" in section.caption
    assert section.caption.endswith(f"Damaged: e; {COMMAND} --mode evaluate makes them again.")
    table = section.table
    assert table is not None
    assert table.heading == ("samples", "n", "features", "evaluations", "Fréchet", "kernel")
    assert table.rows[1] == ("b", "1,000", "inception tf1", "50", "4.000 ± 0.500", "0.001000")
    assert table.rows[3][3:] == ("", "5.250 ± 0.500", "-0.000010")


@pytest.mark.parametrize(("features", "label"), [("inception", "inception Fréchet"), ("pixels", "pixel Fréchet")])
def test_the_figure_says_what_its_distance_is_of(features, label, monkeypatch):
    labels = []
    monkeypatch.setattr(module, "png", lambda figure: labels.extend(a.get_ylabel() for a in figure.axes) or b"")
    reports = {name: report(features=features, evaluations=n) for name, n in (("a", 20.0), ("b", 50.0))}
    evaluation(Evaluations(reports), COMMAND)
    assert labels[0] == f"{label} distance"


@pytest.mark.parametrize("reports", [{"a": report()}, {"a": report(), "b": report(num_samples=999)}])
def test_one_of_a_kind_is_no_figure(reports):
    section = evaluation(Evaluations(reports), COMMAND)
    assert not section.png and section.table is not None and len(section.table.rows) == len(reports)


def test_none_yet():
    section = evaluation(Evaluations({}), COMMAND)
    assert section.caption == f"Not computed yet: {COMMAND} --mode evaluate does, and then --mode report again."
