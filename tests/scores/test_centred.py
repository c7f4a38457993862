"""Point sets whose centre is left out: score, density and likelihood of the shape, by recorded and by closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood import log_likelihood
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.divergence import Exact
from score_sde.scores.subspace import centred, completed, rest_log_prob
from score_sde.sde import vp
from score_sde.sde.analytic import gaussian
from score_sde.solvers import RK45
from tests.golden_files import load, relative_error
from tests.oracles import CONTINUOUS

PRESENT = np.zeros((3, 4, 3), bool)
PRESENT[0], PRESENT[1, [0, 2, 3]], PRESENT[2, 1] = True, True, True
"""Sets of four points, three and one, of two coordinates and a feature each."""


def matrix(present, dimension):
    """The projection of one example as a matrix [numbers, numbers]."""
    every = np.eye(present.size).reshape(-1, *present.shape)
    own = centred(jnp.asarray(np.broadcast_to(present, every.shape)), dimension)
    return np.asarray(own.project(jnp.asarray(every))).reshape(len(every), -1)


def test_projection(float64):
    """Self-adjoint, idempotent, of the stated rank; centred, and of features all."""
    space = centred(jnp.asarray(PRESENT), 2)
    for present, rank in zip(PRESENT, np.asarray(space.dimension), strict=True):
        p = matrix(present, 2)
        np.testing.assert_allclose(p @ p, p, atol=1e-15)
        np.testing.assert_array_equal(p, p.T)
        n = present[:, 0].sum()
        assert np.linalg.matrix_rank(p) == rank == (n - 1) * 2 + n
    x = jnp.asarray(np.random.default_rng(0).normal(size=PRESENT.shape))
    found = np.asarray(space.project(x))
    assert np.abs(found[..., :2].sum(1)).max() < 1e-15 and (found[~PRESENT] == 0).all()
    np.testing.assert_array_equal(found[..., 2], np.where(PRESENT[..., 2], x[..., 2], 0))


def test_score_and_density_split_as_recorded(float64):
    """Of Gaussian shapes beside N(0, tau^2 / N) for the centre, at alpha 0.8 and sigma 0.6."""
    g = {k.split("__")[1]: v for k, v in load("oracles", "systems").items() if k.startswith("points__")}
    sde, x = vp(), jnp.asarray(g["x"])[None]
    space = centred(jnp.ones((1, 4, 2), bool), 2)
    t = sde.time(2 * jnp.log(g["alpha"] / g["sigma"]))
    variance = g["alpha"] ** 2 * g["cov_centred"] + g["sigma"] ** 2 * matrix(np.ones((4, 2), bool), 2)
    inverse = np.linalg.pinv(variance, rcond=1e-10)
    own = lambda x, t: -jnp.einsum("ij,bj->bi", inverse, x.reshape(len(x), -1)).reshape(x.shape)
    assert relative_error(completed(own, sde, space)(x, t)[0], g["score_full"]) < 1e-12
    flat = np.asarray(space.project(x)).reshape(-1)
    eigenvalues = np.linalg.eigvalsh(variance)[2:]
    assert len(eigenvalues) == space.dimension[0] == 6
    shape = -0.5 * (flat @ inverse @ flat + np.log(2 * np.pi * eigenvalues).sum())
    assert abs(shape - g["log_p_centred"]) < 1e-12
    rest = np.asarray(x - space.project(x)).reshape(-1)
    centre = -0.5 * (rest @ rest + 2 * np.log(2 * np.pi))  # tau 1: variance alpha^2 + sigma^2 = 1 along both axes
    assert abs(shape + centre - g["log_p_full"]) < 1e-12


N, STIFF = 4, 5.0


def chain():
    """Covariance [2 N, 2 N] of the shape of N points in the plane whose neighbours are held by springs: U = k/2 |.|^2.

    x = P x, p ~ exp(-k / 2 sum |x_i - x_{i+1}|^2).
    """
    edges = np.eye(N - 1, N) - np.eye(N - 1, N, 1)
    return np.kron(np.linalg.pinv(STIFF * edges.T @ edges), np.eye(2))


@pytest.mark.parametrize("name", ["vp", "ve"])
def test_likelihood_of_a_chain_of_springs(float64, name):
    """log p of the shape, (N - 1) D numbers, by the ODE of all numbers: the closed form's at t_min."""
    sde, t_min = CONTINUOUS[name], 1e-3
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, N, 2)))
    space = centred(jnp.ones((3, N, 2), bool), 2)
    x0, covariance = space.project(x), chain()
    projection = matrix(np.ones((N, 2), bool), 2)
    full = gaussian(jnp.zeros((N, 2)), jnp.asarray(covariance + np.eye(2 * N) - projection)).score(sde)
    score = completed(lambda x, t: full(x, t) + 3 * x.mean(1, keepdims=True), sde, space)  # whose centre does not count
    t = jnp.asarray(0.4)
    assert relative_error(score(x, t), full(x, t)) < 1e-12
    keys, solver = example_keys(root_key(0), positions(0, 3)), RK45(1e-9, 1e-9)
    found = log_likelihood(keys, score, sde, x0, divergence=Exact(), solver=solver, t_min=t_min).log_prob[:, 0]
    found = found - rest_log_prob(sde, space, x0, t_min)
    at = lambda t: sde.alpha(t) ** 2 * covariance + sde.sigma(t) ** 2 * projection
    flat = np.asarray(x0).reshape(3, -1)
    own, last = (np.linalg.eigvalsh(at(time))[2:] for time in (t_min, sde.T))
    nats = 0.5 * ((flat @ np.linalg.pinv(at(t_min), rcond=1e-10) * flat).sum(1) + np.log(2 * np.pi * own).sum())
    prior = sde.prior_std**2  # the model ends at the prior, and not at p_T
    kept = np.linalg.pinv(at(sde.T), rcond=1e-10)
    z = _flow(at(t_min), at(sde.T)) @ flat.T
    ends = 0.5 * ((z.T @ kept * z.T).sum(1) + np.log(2 * np.pi * last).sum())
    model = 0.5 * ((z**2).sum(0) / prior + len(last) * np.log(2 * np.pi * prior))
    np.testing.assert_allclose(-np.asarray(found), nats - ends + model, atol=1e-6)


def _flow(first, last):
    """What the flow of a Gaussian shape does: each axis of its covariance is stretched to the last one's deviation."""
    values, vectors = np.linalg.eigh(first)
    there = values > 1e-10
    after = np.einsum("ik,ij,jk->k", vectors, last, vectors)
    scale = np.where(there, np.sqrt(np.where(there, after, 0) / np.where(there, values, 1)), 0)
    return vectors * scale @ vectors.T


def test_a_set_of_fewer_points_is_the_smaller_set(float64):
    """In the rows that are there, whatever stands in the others."""
    sde, x = CONTINUOUS["vp"], jnp.asarray(np.random.default_rng(1).normal(size=(1, 5, 2)))
    present = np.broadcast_to(np.array([True, True, False, True, False])[None, :, None], (1, 5, 2))
    own = np.flatnonzero(present[0, :, 0])
    score = lambda x, t: -x * (1 + jnp.sum(x**2, (1, 2), keepdims=True))
    t = jnp.asarray(0.3)
    found = completed(score, sde, centred(jnp.asarray(present), 2))(x, t)
    alone = completed(score, sde, centred(jnp.ones((1, 3, 2), bool), 2))(x[:, own], t)
    np.testing.assert_allclose(found[:, own], alone, atol=1e-14)
