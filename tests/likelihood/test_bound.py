"""The bound of the reverse SDE: equal to -log p for exact scores, above it for others, without bias in its samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.likelihood.bound import sde_bound
from score_sde.rng import example_keys, positions, root_key
from tests.oracles import CONTINUOUS, FLOWING, correlated

KEYS = example_keys(root_key(3), positions(0, 4096))
T_MIN = {"vp": 1e-5, "subvp": 1e-5, "ve": 1e-5, "edm": 0.002, "straight": 1e-5, "cosine": 1e-5}


def bound(score, sde, x0, samples, t_min, keys=KEYS):
    return jax.jit(lambda x0: sde_bound(keys, score, sde, x0, samples=samples, t_min=t_min))(x0)


@pytest.mark.parametrize("name", FLOWING)
def test_it_is_the_likelihood_of_gaussian_data(name):
    """One image 4,096 times, which leaves the noise of t and z alone; the prior instead of p_T where they differ."""
    sde, data = FLOWING[name], correlated()
    x0 = jnp.broadcast_to(data.sample(KEYS[:1]), (len(KEYS), 2, 2, 1))
    totals = np.asarray(bound(data.score(sde), sde, x0, 64, T_MIN[name]).total, np.float64)
    exact = -float(data.log_prob(sde)(x0[:1], 1e-7 if name != "ve" else 0.0)[0])
    mean, error = totals.mean(), totals.std() / np.sqrt(len(totals))
    assert error < 0.06
    # VE's data begin with sigma_min^2 = 1e-4 of noise; its prior differs from p_T by a KL below 0.003 nats.
    assert abs(mean - exact) < 4 * error + (0.01 if name in ("ve", "edm") else 0)


def test_a_wrong_score_is_paid_for():
    """By 1/2 int g^2 E|error|^2 dt: of the score times 1 + a, a^2 Z / 2 times the mean square of sigma score."""
    sde, data, a = CONTINUOUS["vp"], correlated(), 0.3
    x0 = data.sample(KEYS)
    score = data.score(sde)
    right, wrong = (
        np.asarray(bound(lambda x, t, c=c: c * score(x, t), sde, x0, 4, 1e-3).steps, np.float64) for c in (1.0, 1 + a)
    )
    # E|sigma score|^2 = sum_i sigma^2 / (alpha^2 v_i + sigma^2) over data, its mean over the log-SNR in closed form.
    ends = [float(jnp.exp(sde.log_snr(t))) for t in (1e-3, sde.T)]
    share = sum(np.log(snr / (1 + snr * v)) * sign for v in data.variances for snr, sign in zip(ends, (1, -1)))
    difference = wrong - right
    error = difference.std() / np.sqrt(len(difference))
    assert abs(difference.mean() - 0.5 * a**2 * share) < 4 * error
    assert error < 0.03 * share
