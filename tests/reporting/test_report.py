"""The command line's report: one page, its figures and numbers, from a checkpoint of the tiny experiment."""

import json
import pathlib
from contextlib import closing

import numpy as np
import pytest

from score_sde.cli.main import main
from score_sde.data.sources import digits
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.reporting import measure, report, rows
from score_sde.storage.checkpoint import Checkpoints
from score_sde.storage.workdir import Workdir
from tests.tiny import tiny_config

ROOT = pathlib.Path(__file__).parents[2]
META = {"step": 0, "position": 0, "pending": [], "skipped_in_a_row": 0, "images": 1500, "grid_left_out": False}


@pytest.fixture(scope="module")
def small():
    """Fewer programs to compile, and one row that is never there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BUDGETS", (5,))
        patch.setattr(rows, "CANDIDATES", ("euler", "no_such_solver", "ancestral"))
        patch.setattr(measure, "NODES", 4)
        patch.setattr(report, "PATHS", ("ancestral",))
        patch.setattr(report, "LOOKED_AT", 8)
        yield


@pytest.fixture(scope="module")
def made(small, light_network, tmp_path_factory):
    """A workdir with a checkpoint of fresh weights and a line of the log, and the report made of it."""
    folder = tmp_path_factory.mktemp("run")
    experiment, workdir = build(tiny_config()), Workdir(folder)
    state = experiment.initial_state()
    workdir.claim(experiment.config)
    with closing(Checkpoints(workdir.checkpoints)) as checkpoints:
        checkpoints.save(0, state, META)
    workdir.metrics.write_text('{"step": 1, "loss": 1.0, "gradient_norm": 2.0}\n')
    code = main(["launch.py", "--config", str(ROOT / "tests" / "tiny.py"), f"--workdir={folder}", "--mode=report"])
    return folder, code, experiment, state


def test_the_page_holds_its_figures_and_the_config(made):
    folder, code, _, _ = made
    assert code == 0
    html = (folder / "report" / "index.html").read_text()
    names = {p.name for p in (folder / "report").iterdir()}
    levels = {"noise_levels.png", "rate_distortion.png"}
    pictures = {"samples.png", "distance.png", "trajectory.png", "training.png"} | levels
    assert names == {"index.html", "numbers.json", "automatic.json", "seals.json", "lock", *pictures}
    assert html.count("data:image/png;base64,") == len(pictures)
    assert "http" not in html
    assert "<td>sampling.num_steps</td><td>4</td>" in html
    assert f"--workdir {folder} --mode likelihood" in html
    assert "step 0, weights: warmup" in html


def test_the_numbers_are_the_two_sample_figures_of_the_same_samples(made):
    folder, _, experiment, state = made
    numbers = json.loads((folder / "report" / "numbers.json").read_text())
    assert set(numbers["solvers"]) == {"euler", "ancestral", report.OWN}
    assert set(numbers["solvers"]["euler"]) == {"5"}
    images = Generator(experiment)(experiment.weights(state), numbers["samples"], show=False).images
    own = numbers["solvers"][report.OWN]["5"]
    figures = two_sample(images, digits().train, digits().held_out)
    np.testing.assert_allclose(own["distance"], figures.frechet_distance, rtol=1e-6)  # of fewer samples than pixels
    assert own["neighbours"] == {
        "nearest_neighbour_accuracy": figures.nearest_neighbour_accuracy,
        "reading": figures.reading,
        "accuracy_on_samples": figures.accuracy_on_samples,
        "accuracy_on_data": figures.accuracy_on_data,
        "precision": figures.precision,
        "recall": figures.recall,
    }
    assert own["not_finite"] == 0
    assert own["evaluations"] == 5
    for row in numbers["solvers"].values():
        assert all(cell["seconds"] > 0 and cell["error"] > 0 for cell in row.values())
    assert [len(numbers["noise_levels"][name]) for name in ("t", "score_norm", "loss", "sum")] == [4] * 4


def test_without_images_the_model_is_still_shown(tmp_path):
    """As of an imported model: what needs images says why it is missing."""
    config = tiny_config(data__name="array", data__path=str(tmp_path / "nowhere.npy"))
    experiment = build(config, record={})
    data = report.Data.of(experiment)
    assert data.yardstick is None
    assert "nowhere.npy" in data.missing


def test_of_one_image_it_is_said_that_distances_need_two(tmp_path):
    np.save(tmp_path / "one.npy", digits().train[:1])
    data = report.Data.of(build(tiny_config(data__name="array", data__path=str(tmp_path / "one.npy"))))
    assert data.yardstick is None and data.missing.startswith("there is one training example")


def test_a_run_that_is_not_trained_is_refused(tmp_path, capsys):
    arguments = ["--config", str(ROOT / "tests" / "tiny.py"), f"--workdir={tmp_path / 'none'}", "--mode=report"]
    assert main(["launch.py", *arguments]) == 2
    assert "train first" in capsys.readouterr().err
