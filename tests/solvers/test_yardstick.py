"""At the same number of evaluations ours end nearer to the truth than every recorded sampler of other projects."""

import pytest

from score_sde.config import automatic, default
from score_sde.experiment import solving
from score_sde.scores.posterior import Small
from score_sde.solvers import Data, DPMSolverMultistep, DPMSolverSDE, ExponentialAdams, grids
from tests.solvers.yardstick import BUDGETS, PROBLEMS, law_error, peers, rms_error, stochastic_peers, wasserstein
from tests.solvers.yardstick import automatic as auto

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_ours_beat_every_peer(problem, budget):
    """By a fifth or more, at the same number of network evaluations."""
    p = PROBLEMS[problem]
    steps = budget - p.denoise
    grid = grids.karras(p.sde, p.t_min, steps, 20.0) if p.denoise else grids.quadratic(p.sde, p.t_min, steps)
    solver = ExponentialAdams(3, corrected=True, lower_final=True)
    assert rms_error(problem, solver, grid) < 0.8 * peers(problem)[budget][0]


@pytest.mark.parametrize("budget", BUDGETS)
def test_at_full_noise_the_law_is_nearer_than_every_peers(budget):
    """Churn 1, the reverse SDE: against Euler-Maruyama, ancestral sampling and SDE-DPM-Solver++(2M)."""
    names = ("Euler-Maruyama", "DDPM ancestral", "kd euler_ancestral", "kd dpmpp_2m_sde")
    grid = grids.power(PROBLEMS["vp"].sde, 1e-3, budget, 5.0)
    ours = wasserstein("vp", ExponentialAdams(3, Data(1.0)), grid)
    assert ours <= stochastic_peers(names)[budget][0]


def test_the_measure_gives_what_was_recorded():
    """The peers' own samplers by our code: DPM-Solver++(2M), its SDE, and that in two stages, under EDM's grid."""
    grid = grids.karras(PROBLEMS["edm"].sde, 0.002, 19)
    recorded = stochastic_peers(("kd dpmpp_2m_sde",))[20][0]
    assert abs(wasserstein("edm", DPMSolverMultistep(2, Data(1.0)), grid) / recorded - 1) < 1e-6
    assert abs(rms_error("edm", DPMSolverMultistep(2), grid) - 0.030) < 6e-4  # the README's table
    grid = grids.karras(PROBLEMS["edm"].sde, 0.002, 9)
    recorded = stochastic_peers(("kd dpmpp_sde (Brownian",))[20][0]
    assert abs(wasserstein("edm", DPMSolverSDE(), grid, draws=2) / recorded - 1) < 1e-6


def test_the_law_of_exact_samples_is_at_the_errors_floor():
    """Many steps of a good method end in the exact law; what is left is of so many samples, and of the prior."""
    grid = grids.power(PROBLEMS["vp"].sde, 1e-3, 60, 3.0)
    assert law_error("vp", ExponentialAdams(3, corrected=True), grid) < 0.015


@pytest.mark.parametrize("problem", PROBLEMS)
def test_auto_at_ten_evaluations_is_nearer_than_every_recorded_sampler_that_draws_noise(problem):
    """By a fifth or more, on the Gaussian, where the distance is exact."""
    assert wasserstein(problem, *auto(problem, 10)) < 0.8 * stochastic_peers()[10][0]


@pytest.mark.certification
@pytest.mark.parametrize("budget", (6, 8, 10, 13, 15))
@pytest.mark.parametrize("problem", PROBLEMS)
def test_auto_at_few_evaluations_is_nearer_than_the_same_steps_with_all_of_the_noise(problem, budget):
    """By a fifth or more, on the mixture: a published predictor and less noise against the exact integral."""
    adams = f"sde_adams_{3 if budget >= automatic.MANY else 2}"
    plain = auto(problem, budget, solver=adams, churn=automatic.CHOICES[problem]["churn"])
    assert law_error(problem, *auto(problem, budget)) < 0.8 * law_error(problem, *plain)


@pytest.mark.parametrize("sde", automatic.CHOICES)
def test_auto_never_spends_more_than_it_is_given(sde):
    """By the solver that it makes: evaluations per step times steps, and the denoising."""
    for budget, denoise, order in ((7, False, 2), (7, True, 2), (15, True, 3)):
        config = default()
        config.sampling.update(automatic.choose(sde, budget, denoise).fields)
        solver = solving.solver(config.sampling, Small())
        assert config.sampling.num_steps * solver.evaluations + denoise == budget
        assert solver.order == order
