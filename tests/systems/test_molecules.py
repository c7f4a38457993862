"""The diffusion of molecules: its published schedules, step from t to s, bound and prior of the centred space."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.networks.gamma import CURVE, Gamma
from score_sde.objectives.denoising import denoising_loss_at, half_sum
from score_sde.objectives.variational import gaussian_decoder
from score_sde.scores.subspace import centred, within
from score_sde.sde import Learned, chain, transition
from score_sde.sde.learned import Tangent
from score_sde.solvers import Ancestral
from tests.golden_files import load, relative_error

TABLES = 1e-6
"""The source keeps gamma in float32 (golden/systems/README.md), of numbers up to 11.5."""


@pytest.fixture
def g(float64) -> dict[str, Any]:
    return load("molecules", "systems")


def space_of(g):
    """Of four molecules of five atoms or fewer, three coordinates and three features each."""
    return centred(jnp.asarray(np.broadcast_to(g["net__node_mask"] > 0, (4, 5, 6))), 3)


def polynomial():
    """The chain of T = 50 steps, whose first level is t = 0, and the time of level i."""
    return chain.vp_chain(chain.polynomial_betas(51)), lambda i: (jnp.asarray(i, float) + 1) / 51


def stub(sde, space):
    """The score of the source's stand-in for a network, eps = 0.6 x, whose coordinates have no mean."""
    return within(lambda x, t: -0.6 * x / jnp.broadcast_to(sde.sigma(t), len(x))[:, None, None], space)


def test_schedules(g):
    for steps in (50, 1000):
        found = np.cumprod(1 - chain.polynomial_betas(steps + 1))
        assert relative_error(found, g[f"alphas2_polynomial_2_T{steps}"]) < 1e-14
    assert relative_error(np.cumprod(1 - chain.cosine_betas(51)), g["alphas2_cosine_T50"]) < 1e-14
    sde, level = polynomial()
    assert relative_error(-sde.log_snr(level(np.arange(51))), g["gamma_T50"]) < 1e-7


def test_transitions(g):
    first, last = g["transition__gamma_s"][:, 0], g["transition__gamma_t"][:, 0]
    sde = Tangent(jnp.ones(8), jnp.asarray(last), jnp.asarray(last - first))
    a, b = transition(sde, jnp.zeros(8), jnp.ones(8))
    assert relative_error(a, g["transition__alpha"][:, 0]) < 1e-12
    assert relative_error(b**2, g["transition__sigma2"][:, 0]) < 1e-12


def test_the_learned_schedule(g):
    """Whose positive weights are softplus(w), and whose curve is of sigmoids: tanh(y / 2) = 2 sigmoid(y) - 1."""
    p = {k.split("/")[1]: v for k, v in g.items() if k.startswith("gamma_network__params/")}
    positive = lambda name: np.logaddexp(0, p[f"{name}.weight"]).T
    w1, w2, w3 = map(positive, ("l1", "l2", "l3"))
    curve = {
        "l1": {"kernel": w1, "bias": p["l1.bias"]},
        "l2": {"kernel": w2 * w1 / 2, "bias": (w2 * (p["l1.bias"] + w1 / 2))[0] + p["l2.bias"]},
        "l3": {"kernel": 1024 * w3 / 2},
    }
    ends = {"b": p["gamma_0"], "w": p["gamma_1"] - p["gamma_0"]}
    sde = Learned({"ends": ends, CURVE: curve}, Gamma(features=1024))
    assert relative_error(sde.gamma(g["gamma_network__t"]), g["gamma_network__gamma"]) < 1e-12


@pytest.mark.parametrize("number", [0, 24, 49])
def test_steps(g, number):
    sde, level = polynomial()
    space = space_of(g)
    x, z = jnp.asarray(g["step__z_t"]), space.project(jnp.asarray(g["step__noise"]))
    found = Ancestral().update(sde, stub(sde, space), x, level(number + 1), level(number), z)
    assert relative_error(found.x, g[f"step_{number}__z_s"]) < TABLES


def test_terms_of_the_bound(g):
    """Of the steps, at recorded levels and noise, and of the coordinates given z_0, whose density has (n - 1) D axes.

    Less what the source has of the prior and of z_0, which are recorded too.
    """
    sde, level = polynomial()
    space, number = space_of(g), g["vlb__t_int"][:, 0]
    t, s = level(number), level(number - 1)
    weight = lambda sde, t: 50 * jnp.expm1(sde.log_snr(s) - sde.log_snr(t))
    x0, z = jnp.asarray(g["vlb__xh"]), jnp.asarray(g["vlb__eps"])
    found = denoising_loss_at(stub(sde, space), sde, x0, t, z, weighting=weight, reduction=half_sum)
    others = g["vlb__kl_prior"] - g["vlb__log_constants"] - g["vlb__log_p_given_z0"]
    assert relative_error(found, g["vlb__loss"] - others) < TABLES
    coordinates = centred(jnp.asarray(np.broadcast_to(g["net__node_mask"] > 0, (4, 5, 3))), 3)
    nothing, log_variance = jnp.zeros(4), jnp.broadcast_to(-sde.log_snr(level(0)), (4,))
    constants = np.asarray(coordinates.dimension) * np.asarray(gaussian_decoder(nothing, nothing, log_variance))
    assert relative_error(constants, g["vlb__log_constants"]) < TABLES


def test_the_prior(g):
    """Whose density has 3 (n - 1) axes."""
    for name, mask in (("", np.ones((4, 5, 1))), ("_masked", g["net__node_mask"])):
        z = jnp.asarray(g[f"prior__z{name}"])
        space = centred(jnp.asarray(np.broadcast_to(mask > 0, z.shape)), 3)
        found = -0.5 * (
            (space.project(z) ** 2).sum((1, 2)) + np.asarray(space.dimension, float) * math.log(2 * math.pi)
        )
        assert relative_error(found, g[f"prior__log_prob{name}"]) < 1e-12
