"""The posterior of matched moments: its gradient by automatic differentiation of the density itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.guidance import MMPS, Matched
from score_sde.sde import denoised, karras, vp
from tests.guidance.problems import law, measured

pytestmark = pytest.mark.usefixtures("float64")
Y = {"inpaint": [0.3, -0.2, 0.5, 0.1], "blur": [0.2, 0.1, -0.3, 0.4, 0.0, 0.3, -0.1, 0.2], "box": [0.1, 0.4, -0.2, 0.3]}


def density(data, sde, seen, x, t):
    """log N(y; A D(x), A C(x) A^T + sigma_y^2 I) of one x [D], C from the denoiser's own Jacobian."""
    A = seen.A.inner.factors[0].matrix

    def denoiser(x):
        return denoised(sde, x[None], data.score(sde)(x[None], t), t)[0]

    C = sde.sigma(t) ** 2 / sde.alpha(t) * jax.jacfwd(denoiser)(x)
    S = A @ C @ A.T + seen.sigma_y**2 * jnp.eye(len(A))
    e = seen.y[0] - A @ denoiser(x)
    return -0.5 * e @ jnp.linalg.solve(S, e) - 0.5 * jnp.linalg.slogdet(S)[1]


@pytest.mark.parametrize("problem", Y)
@pytest.mark.parametrize(("sde", "t"), [(karras(), 0.7), (vp(), 0.3)], ids=["edm", "vp"])
def test_it_is_the_gradient_of_its_density(problem, sde, t):
    data, seen, t = law("mix"), measured("mix", problem, np.array(Y[problem]), 0.3), jnp.float64(t)
    x = jax.random.normal(jax.random.key(0), (5, 8))
    x = sde.alpha(t) * x + sde.sigma(t) * jax.random.normal(jax.random.key(1), x.shape)
    score = data.score(sde)
    found = Matched(products=9, variance=None, probes=8, steepest=1e9)(score, sde, seen)(x, t) - score(x, t)
    expected = jax.vmap(jax.grad(lambda x: density(data, sde, seen, x, t)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    without = MMPS(9, variance=None)(score, sde, seen)(x, t) - score(x, t)
    assert np.abs(np.asarray(without - expected)).max() > 1e-3  # the slope of the covariance is in it


def test_of_gaussian_data_it_is_the_exact_score():
    data, sde, t = law("gauss"), karras(), jnp.float64(0.9)
    seen = measured("gauss", "blur", np.array(Y["blur"]))
    x = jax.random.normal(jax.random.key(0), (4, 8))
    one, other = (m(data.score(sde), sde, seen)(x, t) for m in (Matched(8, 1.0), MMPS(8, variance=1.0)))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_probes_are_functions_of_time_alone_and_its_second_term_is_bounded():
    data, sde = law("mix"), karras()
    seen = measured("mix", "inpaint", np.array(Y["inpaint"]), 0.01)
    x = jax.random.normal(jax.random.key(0), (6, 8))
    score = lambda limit: Matched(3, 0.44, 2, limit)(data.score(sde), sde, seen)
    t = jnp.float64(0.8)
    whole = score(1.0)(x, t)
    np.testing.assert_allclose(score(1.0)(x[::-1][:2], t), whole[::-1][:2], rtol=1e-12)
    np.testing.assert_allclose(score(1.0)(x, jnp.full(6, t)), whole, rtol=1e-9)
    bend = np.asarray(whole - score(0.0)(x, t))
    lengths = np.sqrt((bend**2).sum(1)) * 0.8  # sigma^2 of sigma sqrt(8), over sigma
    assert (lengths <= np.sqrt(8) * (1 + 1e-9)).all() and (lengths > 0).all()
