"""Published rules that others' code computes beside those of this package: the recorded arrays, and how they differ."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.guidance.classifier import class_log_prob, classifier_guided
from score_sde.sde import transition
from score_sde.sde.chain import vp_chain
from tests.guidance.problems import golden, law

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("variance", ["FIXED_SMALL", "FIXED_LARGE"])
def test_sigma_g_falls_short_of_the_score_form(float64, variance):
    """ADM's condition_mean adds Sigma g to a step's mean, where the score form moves it by b^2 / a g."""
    g, data = golden("adm"), law("mix")
    sde = vp_chain(g["betas_respaced"])
    x, label = jnp.asarray(g["x"]).reshape(3, -1), jnp.asarray(g["y"])
    nothing = lambda x, t: jnp.zeros_like(x)
    slope = classifier_guided(nothing, class_log_prob(data.log_responsibilities(sde), label))
    found = []
    for i in (0, 3, 8):
        t, s = jnp.asarray((i + 1) / 10), jnp.asarray(i / 10)
        sigma = g[f"{variance}/t{i}/variance"].reshape(3, -1)
        shift = np.subtract(*(g[f"{variance}/t{i}/{key}"].reshape(3, -1) for key in ("scale1/condition_mean", "mean")))
        np.testing.assert_allclose(shift, sigma * slope(x, t), rtol=1e-8, atol=1e-14)
        a, b = transition(sde, s, t)
        found.append(np.abs(shift).max() / np.abs(b**2 / a * slope(x, t)).max())
    shares = {"FIXED_SMALL": [0, 0.43, 0.39], "FIXED_LARGE": [1, 0.73, 0.39]}
    np.testing.assert_allclose(found, shares[variance], atol=0.01)
