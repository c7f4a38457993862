"""Which solvers a report compares, and that they keep to the budget of evaluations."""

import pytest

from configs import digits_classes, digits_edm
from score_sde.experiment import build
from score_sde.reporting import rows
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def experiment():
    return build(tiny_config(sampling__corrector="langevin", sampling__t_min=2e-3))


@pytest.mark.parametrize(
    "budget, per_step, denoise, steps",
    [(5, 1, True, 4), (5, 1, False, 5), (5, 2, True, 2), (6, 2, False, 3), (1, 1, True, 0), (1, 3, True, 0)],
)
def test_steps_within_a_budget(budget, per_step, denoise, steps):
    assert rows.steps_within(budget, per_step, denoise) == steps


def discrete():
    levels = {"parametrization__label": "level", "training__times": "levels"}
    return tiny_config(sde__discrete=True, sde__num_scales=30, sampling__times="levels", **levels)


@pytest.mark.parametrize("config", [digits_edm.get_config(), discrete()], ids=["edm", "discrete"])
def test_every_cell_makes_the_most_of_its_budget(config, monkeypatch):
    monkeypatch.setattr(rows, "CANDIDATES", ("ancestral", "heun", "euler"))
    experiment = build(config)
    found = rows.rows(experiment)
    assert {"ancestral", "euler"} <= {row.name for row in found}
    for row in found:
        for budget, cell in row.cells.items():
            spent = rows.evaluations(cell)
            more = rows.variant(cell, row.name, num_steps=cell.config.sampling.num_steps + 1)
            assert spent is not None
            assert spent <= budget
            assert more is None or rows.evaluations(more) > budget
            assert cell.config.sampling.solver == row.name
            assert cell.config.sampling.t_min == config.sampling.t_min


def test_levels_that_are_too_few_leave_cells_empty(monkeypatch):
    """Thirty levels are no fifty steps."""
    monkeypatch.setattr(rows, "CANDIDATES", ("euler",))
    cells = rows.rows(build(discrete()))[0].cells
    assert set(cells) == {5, 10, 20}


def test_what_validation_refuses_is_left_out(experiment, monkeypatch):
    monkeypatch.setattr(rows, "CANDIDATES", ("no_such_solver", "euler", "rk45"))
    assert [row.name for row in rows.rows(experiment)] == ["euler"]
    assert rows.variant(experiment, "no_such_solver") is None


def test_a_variant_takes_nothing_of_the_configs_own_solver(experiment):
    """Its corrector, for one; and the experiment itself is left as it was."""
    c = rows.variant(experiment, "euler_maruyama", num_steps=7).config.sampling
    assert (c.corrector, c.num_steps, c.times, c.t_min) == ("none", 7, "log_snr", 2e-3)
    assert experiment.config.sampling.corrector == "langevin"


def test_the_configs_own_way_is_drawn_where_it_is_affordable(experiment):
    assert rows.evaluations(experiment) == 4 * 2 + 1
    assert rows.own(experiment) is experiment
    assert rows.own(build(tiny_config(sampling__num_steps=rows.AFFORDABLE))) is None
    adaptive = build(tiny_config(sampling__solver="rk45"))
    assert rows.evaluations(adaptive) is None
    assert rows.own(adaptive) is adaptive


def test_the_default_solver_is_named_too(experiment, monkeypatch):
    monkeypatch.setattr(rows, "CANDIDATES", ("euler_maruyama",))
    (row,) = rows.rows(experiment)
    assert row.fields(10) == {"solver": "euler_maruyama", "times": "log_snr"}


def test_labels_that_are_asked_for_are_drawn_by_every_solver():
    config = digits_classes.get_config()
    config.sampling.label = "3"
    found = rows.variant(build(config), "euler", num_steps=3)
    assert found is not None and found.config.sampling.label == "3"


@pytest.mark.parametrize("best", [{"solver": "euler_maruyama", "times": "log_snr"}, {"times": "log_snr"}])
def test_auto_takes_all_that_makes_a_solver_and_nothing_of_another(best):
    """What another solver was set to in the config does not count; what belongs to none does."""
    auto = {"sampling__solver": "auto", "sampling__num_steps": 20, "sampling__rho": 3.0, "sampling__t_min": 2e-3}
    measured = {"automatic": {"step": 7, "best": {"10": best}}}
    found = build(tiny_config(**auto), measured).drawing.sampling.sampling
    assert (found.solver, found.times, found.num_steps) == ("euler_maruyama", "log_snr", 19)
    assert (found.rho, found.t_min) == (7.0, 2e-3)
