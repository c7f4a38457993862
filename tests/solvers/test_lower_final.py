"""Which steps each word lowers to order 2 and 1, and on which grids, as the methods' own code does."""

import dataclasses

import numpy as np
import pytest

from score_sde.config import default
from score_sde.config.fields import MULTISTEP
from score_sde.experiment import solving
from score_sde.scores.posterior import Small
from score_sde.sde import vp
from score_sde.solvers import grids
from score_sde.solvers.exponential import node
from score_sde.solvers.multistep import orders

ALWAYS = 10**6
"""More steps than any grid here."""
BELOW = {
    **dict.fromkeys(("dpm_solver_2m", "dpm_solver_3m", "dpm_solver_pp_2m", "dpm_solver_pp_3m"), 10),
    **dict.fromkeys(("deis_2", "deis_3"), 15),
    **dict.fromkeys(("unipc_2", "unipc_3", "unipc_2_bh1", "unipc_3_bh1"), ALWAYS),
    **dict.fromkeys(("unipc_2_vary_coeff", "unipc_3_vary_coeff", "adams_2", "adams_3", "adams_4"), ALWAYS),
    **dict.fromkeys(("sde_adams_2", "sde_adams_3", "dpm_solver_pp_2m_sde", "dpm_solver_pp_3m_sde"), 0),
}
"""Grids of fewer steps than that are lowered: DPM-Solver's own code, diffusers' DEIS, UniPC's own code."""


def solver_of(word):
    return solving.SOLVERS[word](default().sampling, Small())


def coefficients(solver, count):
    table = solver.table(node(vp(), grids.log_snr(vp(), 1e-3, count)))
    return [np.asarray(a) for a in table if a is not None]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_every_multistep_word_is_listed():
    assert {*BELOW} == {*MULTISTEP}
    assert {w for w in solving.SOLVERS if getattr(solver_of(w), "order", 1) > 1} >= {*MULTISTEP}


@pytest.mark.parametrize("word", MULTISTEP)
def test_a_word_lowers_its_last_steps_where_the_published_code_does(word):
    solver = solver_of(word)
    for count in (9, 10, 14, 15):
        lowered = same(coefficients(solver, count), coefficients(dataclasses.replace(solver, lower_final=True), count))
        full = same(coefficients(solver, count), coefficients(dataclasses.replace(solver, lower_final=False), count))
        assert (lowered, full) == (count < BELOW[word], count >= BELOW[word])


def test_lowered_steps_are_of_order_2_then_1():
    assert orders(6, 3, True).tolist() == [1, 2, 3, 3, 2, 1]
    assert orders(6, 3, 7).tolist() == [1, 2, 3, 3, 2, 1]
    assert orders(6, 3, 6).tolist() == [1, 2, 3, 3, 3, 3]
    assert orders(2, 3, True).tolist() == [1, 1]


def test_the_last_lowered_step_is_ddim():
    """x_s = alpha_s / alpha_t x - (sigma_t alpha_s / alpha_t - sigma_s) eps, from the newest output alone."""
    times = grids.log_snr(vp(), 1e-3, 9)
    table = solver_of("dpm_solver_3m").table(node(vp(), times))
    t, s = times[-2], times[-1]
    ratio = vp().alpha(s) / vp().alpha(t)
    np.testing.assert_allclose(table.x[-1], ratio, rtol=1e-5)
    np.testing.assert_allclose(table.outputs[-1], [vp().sigma(s) - ratio * vp().sigma(t), 0, 0], rtol=1e-3)


@pytest.mark.parametrize(("asked", "count", "lowered"), [("always", 12, True), ("never", 8, False)])
def test_the_field_has_the_last_word(asked, count, lowered):
    config = default()
    config.sampling.update(solver="dpm_solver_pp_2m", lower_final=asked, num_steps=count)
    found = solving.solver(config.sampling, Small())
    expected = dataclasses.replace(solver_of("dpm_solver_pp_2m"), lower_final=lowered)
    assert same(coefficients(found, count), coefficients(expected, count))
