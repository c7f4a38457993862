"""Implicit and sliced score matching have denoising score matching's minimiser and, up to a constant, its value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.objectives.denoising import UniformTimes, denoising, denoising_loss, half_sum, mean, simple
from score_sde.objectives.score_matching import Sliced, implicit
from score_sde.rng import example_keys, positions, root_key
from tests.oracles import CONTINUOUS, SDES, correlated

OBJECTIVES = {
    "implicit": implicit,
    "sliced": Sliced(1, variance_reduced=False),
    "sliced, 3 projections": Sliced(3, variance_reduced=False),
    "sliced, variance reduced": Sliced(),
}
N = 4096
KEYS = example_keys(root_key(0), positions(0, N))


def per_example(objective, sde, change, reduction=mean):
    """The losses of a linear model of the score of Gaussian data; change 0 is the truth."""
    data = correlated()
    x0 = data.sample(example_keys(root_key(9), positions(0, N)))
    score = lambda x, t: (1 + change[0]) * data.score(sde)(x, t) + change[1] / sde.sigma(t)[:, None, None, None]
    options = {"weighting": simple, "times": UniformTimes(1e-3), "reduction": reduction}
    return denoising_loss(KEYS, score, sde, x0, objective=objective, **options)


@pytest.mark.parametrize(
    ("name", "sde_name"),
    [("implicit", name) for name in CONTINUOUS] + [(name, "vp") for name in OBJECTIVES if name != "implicit"],
)
def test_the_exact_score_is_the_minimiser(float64, name, sde_name):
    losses = lambda change: per_example(OBJECTIVES[name], CONTINUOUS[sde_name], change)
    slopes = jax.jacfwd(losses)(jnp.zeros(2))
    curvature = jax.hessian(lambda c: losses(c).mean())(jnp.zeros(2))
    standard_error = slopes.std(0) / np.sqrt(N)
    assert (np.abs(slopes.mean(0)) < 4 * standard_error).all()
    assert (np.linalg.eigvalsh(curvature) > 10 * standard_error.max()).all()


@pytest.mark.parametrize("reduction", [mean, half_sum])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_value_differs_from_denoising_by_the_noise_alone(float64, name, reduction):
    """E r^2 - E objective = E z^2: 1 per element, whatever the model."""
    sde, change, constant = SDES["vp"], jnp.array([0.3, 0.2]), {mean: 1.0, half_sum: 2.0}[reduction]
    difference = per_example(denoising, sde, change, reduction) - per_example(OBJECTIVES[name], sde, change, reduction)
    assert abs(difference.mean() - constant) < 4 * difference.std() / np.sqrt(N)


def test_variance_reduction_reduces_the_variance(float64):
    at = lambda name: float(per_example(OBJECTIVES[name], SDES["vp"], jnp.array([0.3, 0.2])).var())
    assert at("implicit") < at("sliced, variance reduced") < at("sliced")
    assert at("sliced, 3 projections") < at("sliced")
