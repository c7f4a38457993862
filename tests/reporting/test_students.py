"""Students in a report: every phase beside the solvers, from the same seeds; what is no student is refused."""

import json

import numpy as np
import pytest

from score_sde.cli import modes
from score_sde.errors import UsageError
from score_sde.evaluation.two_sample import two_sample
from score_sde.experiment import build
from score_sde.experiment.generation import Generator
from score_sde.reporting import measure, report, rows
from score_sde.reporting.students import students
from score_sde.storage.workdir import Workdir
from tests.tiny import tiny_config, trained_run

pytestmark = pytest.mark.usefixtures("light_network")


def velocity_config(**changes):
    own = {"sde__name": "cosine", "parametrization__prediction": "velocity", "sampling__times": "uniform"}
    return tiny_config(**own | changes)


def phase(folder, num_steps: int, teacher):
    config = velocity_config(system__name="distilled", sampling__solver="few_step", sampling__num_steps=num_steps)
    config.distillation.steps = (num_steps,)
    config.frozen.teacher = str(teacher)
    config.sampling.seed = 7
    return trained_run(folder / f"steps_{num_steps}", config).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    teacher = trained_run(folder / "teacher", velocity_config()).path
    phase(folder / "pupils", 1, phase(folder / "pupils", 2, teacher))
    return folder


def test_phases_stand_beside_the_solvers_with_samples_of_the_same_seed(runs, monkeypatch):
    for module, name, value in (
        (rows, "BUDGETS", (5,)), (rows, "CANDIDATES", ("euler",)), (measure, "NODES", 4), (report, "PATHS", ("euler",)),
        (report, "LOOKED_AT", 8),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    config = velocity_config(report__students=(str(runs / "pupils"),))
    assert modes.report(config, Workdir(runs / "teacher"), "launch.py") == 0
    numbers = json.loads((runs / "teacher" / "report" / "numbers.json").read_text())
    found = numbers["solvers"]["pupils"]
    assert {n: cell["evaluations"] for n, cell in found.items()} == {"1": 1.0, "2": 2.0}
    experiment = build(config)
    for student in students(experiment):
        assert student.experiment.config.sampling.seed == config.sampling.seed
        x = Generator(student.experiment)(student.params, numbers["samples"], show=False).x
        figures = two_sample(x, experiment.data.train, experiment.data.held_out)
        np.testing.assert_allclose(found[str(student.evaluations)]["distance"], figures.frechet_distance, rtol=1e-6)
    assert "<th>1 evaluations</th>" in (runs / "teacher" / "report" / "index.html").read_text()


def test_a_run_by_its_own_name(runs):
    (found,) = students(build(velocity_config(report__students=(f"{runs / 'pupils' / 'steps_1'}@1:raw",))))
    assert (found.name, found.evaluations) == ("pupils", 1)


def test_what_draws_in_no_few_steps_is_refused(runs, tmp_path):
    trained_run(tmp_path / "edm", tiny_config(sde__name="edm", training__times="log_normal", sampling__times="log_snr"))
    with pytest.raises(UsageError, match=r"report\.students=.*edm draws no samples in 1, 2, 4, 8 evaluations"):
        students(build(velocity_config(report__students=(str(tmp_path / "edm"),))))
    with pytest.raises(UsageError, match=r"report\.students=nowhere holds no trained run"):
        students(build(velocity_config(report__students=("nowhere",))))
