import numpy as np

from score_sde.config.automatic import CHOICES, FEW, choose
from score_sde.reporting.best import chosen
from score_sde.reporting.sections import Result


def cell(distance, grainy):
    return Result(np.zeros(0), 20, 0.1, distance, 0.02, 500, 0, {}, grainy)


def test_the_least_distance_is_chosen_unless_its_samples_are_grainier():
    cells = {"ode": cell(0.25, (0.2, 0.018)), "sde": cell(0.30, (0.006, 0.003)), "worse": cell(0.6, (0.0, 0.002))}
    assert chosen(cells) == "sde"
    assert chosen(cells | {"ode": cell(0.25, (0.008, 0.004))}) == "ode"


def test_what_is_no_picture_is_chosen_by_distance():
    assert chosen({"a": cell(0.3, None), "b": cell(0.2, None)}) == "b"


def test_auto_takes_the_runs_own_best_of_at_most_as_many_evaluations():
    measured = {"step": 7, "best": {"10": {"solver": "ddim"}, "50": {"solver": "ancestral"}}}
    assert choose("vp", 30, True, measured).fields == {"solver": "ddim", "corrector": "none", "num_steps": 29}
    assert choose("vp", 50, False, measured).fields["solver"] == "ancestral"
    other = choose("vp", 5, True, measured)
    assert other.measured is None and FEW["vp"].items() <= other.fields.items()
    damaged = str(choose("vp", 30, True, {"fault": "a.json is damaged"}))
    assert damaged.endswith("(by measurements on other runs: a.json is damaged, --mode report makes it again)")
    assert "step 7" in str(choose("vp", 30, True, measured)) and "step" not in str(other).replace("num_steps", "")


def test_noise_and_order_grow_with_the_evaluations():
    found = {n: choose("vp", n, True).fields for n in (14, 15, 19, 20)}
    assert [f["solver"] for f in found.values()] == [FEW["vp"]["solver"], *3 * ["sde_adams_3"]]
    assert [f["churn"] for f in found.values()] == [*3 * [FEW["vp"]["churn"]], CHOICES["vp"]["churn"]]
    assert choose("ve", 10, True).fields == {
        "solver": "sde_adams_2", "lower_final": "always", **CHOICES["ve"], "corrector": "none", "num_steps": 9,
    }  # fmt: skip
