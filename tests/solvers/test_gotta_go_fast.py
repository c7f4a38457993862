"""Gotta-Go-Fast beside its recorded runs (test_recorded.py): its known bias, and each sample on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.rng import child, example_keys, normal, positions, root_key
from score_sde.solvers import GottaGoFast
from tests.oracles import SDES, recorded_law

N = 1024


@pytest.mark.certification
@pytest.mark.parametrize(("rtol", "recorded"), [(0.05, 0.553), (0.01, 0.542)])
def test_its_rejections_widen_the_law_as_recorded(rtol, recorded):
    """The standard deviation of 1024 x 6 values of N(0.3, 0.5^2) in the source's own runs; Monte Carlo noise 0.005."""
    sde, law, keys = SDES["vp"], recorded_law("gauss"), example_keys(root_key(0), positions(0, N))
    x, _ = jax.jit(
        lambda keys, x: GottaGoFast(rtol).solve(keys, sde, law.score(sde), x, jnp.float32(1.0), jnp.float32(1e-3))
    )(keys, normal(child(keys, 1), (6,)))
    assert abs(np.std(x) - recorded) < 0.015
