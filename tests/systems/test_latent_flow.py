"""Bounds of latents with the prior by the ODE: closed forms of Gaussians, draw by draw; rows; what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from score_sde.config.validation import check_likelihood
from score_sde.errors import UsageError
from score_sde.experiment import build
from score_sde.experiment.own_bound import OwnBound
from score_sde.networks import Perceptron, VectorQuantizer
from score_sde.rng import Purpose, child, example_keys, normal, positions, root_key
from score_sde.scores.divergence import Exact, Gaussian, Rademacher
from score_sde.sde import vp
from score_sde.solvers import RK45
from score_sde.systems import FirstStage, FlowBound, Joint, Latent
from score_sde.systems.base import Weighted
from tests.golden_files import quick_jit
from tests.systems import test_latent
from tests.systems.test_latent import WIDE, D, coder, fields, moved
from tests.systems.test_latent_runs import joint_config, latent_config

FINE, QUICK = RK45(1e-7, 1e-7, per_sample=True), RK45(per_sample=True)
M, V, SCALE, NOISE = np.array([0.5, -1.0, 0.2]), np.array([2.0, 0.5, 0.1]), 1.7, 0.3
"""The latents' mean and variances, their scale, and the decoder's variance."""


class Linear:
    """x = W z + c and noise, W of orthogonal columns; q(z | x) is p(z | x), moved and widened by `off`."""

    latent = (D,)

    def __init__(self, off: float) -> None:
        rng = np.random.default_rng(0)
        self.off, self.c = off, rng.normal(size=WIDE)
        self.W = np.linalg.qr(rng.normal(size=(WIDE, D)))[0] * np.array([1.0, 2.0, 0.5])
        self.precision = 1 / V + (self.W**2).sum(0) / NOISE

    def posterior(self, x):
        """The mean of p(z | x)."""
        return ((M / V)[None] + (x - self.c[None]) @ self.W / NOISE) / self.precision[None]

    def encode(self, params, x, backwards=False):
        return self.posterior(x) + self.off, jnp.asarray(self.off - np.log(self.precision))[None]

    def decode(self, params, z, backwards=False):
        return z @ self.W.T + self.c[None], jnp.log(jnp.asarray(NOISE))

    def density(self, x, decoded):
        return -0.5 * ((x - decoded[0]) ** 2 / NOISE + jnp.log(2 * jnp.pi * NOISE)).sum(1)

    def log_prob(self, x):
        """log p(x) [B]."""
        covariance = (self.W * V) @ self.W.T + NOISE * np.eye(WIDE)
        return stats.multivariate_normal.logpdf(x, self.W @ M + self.c, covariance)

    def log_ratio(self, x, z):
        """log p(x, z) / q(z | x) [B]."""
        mean, variance = self.posterior(np.asarray(x)), 1 / self.precision
        own = stats.norm.logpdf(z, mean, np.sqrt(variance))
        other = stats.norm.logpdf(z, mean + self.off, np.sqrt(variance * np.exp(self.off)))
        return self.log_prob(x) + (own - other).sum(1)


def gaussian(off: float, divergence) -> FlowBound:
    """Of the exact score, whose Jacobian is diagonal, so that one sign does for all; nearly nothing is left at T."""
    network = test_latent.Exact(jnp.asarray(M / SCALE), jnp.asarray(V / SCALE**2))
    own = fields(network=network, process=vp(beta_max=40.0), autoencoder=Linear(off), scale=SCALE, t_min=1e-6)
    return FlowBound(Latent(**own), divergence, FINE)


@pytest.mark.parametrize(("off", "divergence"), [(0.0, Exact()), (0.4, Rademacher(2))], ids=["exact q", "another q"])
def test_gaussian_data_have_their_closed_form_draw_by_draw(float64, off, divergence):
    """The bound, which is -log p(x) itself where q(z | x) is p(z | x), the prior's term and the K-fold mean ratio."""
    bound, x, keys = gaussian(off, divergence), normals(5), example_keys(root_key(1), positions(0, 5))
    params = {"score": {}}
    found, terms = quick_jit(lambda x: bound.bound(params, keys, x, {}))(x)
    linear = bound.system.autoencoder
    assert isinstance(linear, Linear)

    def drawn(keys):
        return np.asarray(bound.system.drawn(keys, *linear.encode({}, x)))

    z = drawn(keys)
    np.testing.assert_allclose(terms["prior"], -stats.norm.logpdf(z, M, np.sqrt(V)).sum(1), atol=1e-3)
    np.testing.assert_allclose(found, -linear.log_ratio(x, z), atol=1e-3)
    np.testing.assert_allclose(sum(terms.values()), found, rtol=1e-9)
    if not off:
        np.testing.assert_allclose(found, -linear.log_prob(x), atol=1e-3)
        return
    assert np.abs(found + linear.log_prob(x)).min() > 1e-2
    draws = child(keys, Purpose.STEPS)
    ratios = [linear.log_ratio(x, drawn(child(draws, k))) for k in range(3)]
    weighted = quick_jit(lambda x: bound.importance_weighted(params, keys, x, {}, samples=3))(x)
    np.testing.assert_allclose(weighted, np.log(3) - np.logaddexp.reduce(ratios, axis=0), atol=1e-3)


def normals(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(2), (count, WIDE))


def begun(system):
    return quick_jit(lambda key: moved(system.init(key, {})))(root_key(0))


def test_without_the_network_it_is_the_vaes_ratio():
    """At a = 0 the ODE leaves z where it is, and the prior is N(0, I)."""
    system = Joint(**fields(mixing=-np.inf))
    params, x, keys = begun(system), normals(4), example_keys(root_key(1), positions(0, 4))
    own, noise = FlowBound(system, Exact(), QUICK), lambda: normal(child(keys, Purpose.LATENT), (D,))
    both = quick_jit(lambda x: (own.bound(params, keys, x, {})[0], coder().log_ratio(params, x, noise())))
    found, ratio = both(x)
    np.testing.assert_allclose(found, -ratio, rtol=1e-5)


def test_an_examples_bound_depends_on_nothing_else():
    """Bitwise, of one batch size; probes are of its own key, and their mean is the divergence."""
    system = Joint(**fields(mixing=0.0, network=Perceptron((16,))))
    params, x, keys = begun(system), normals(6), example_keys(root_key(1), positions(0, 6))
    own = FlowBound(system, Gaussian(2), QUICK)
    bounds = quick_jit(lambda keys, x: own.bound(params, keys, x, {})[0])
    other = jnp.array([5, 0, 3, 3, 1, 2])
    np.testing.assert_array_equal(bounds(keys, x)[other], bounds(keys[other], x[other]))
    assert isinstance(own, Weighted) and not isinstance(system, Weighted)


@pytest.mark.usefixtures("quick_compilation")
def test_rows_of_a_run():
    """Of the seed and the number whatever the batch, with an importance-weighted figure; gone on from a row."""
    own = {"likelihood__solver": "rk45", "likelihood__divergence": "exact", "likelihood__importance_samples": 2}
    config = joint_config(**own, likelihood__batch_size=8, likelihood__dequantizations=1)
    experiment = build(config)
    params, numbers, bound = experiment.init_params(), np.arange(12), OwnBound(experiment)
    rows = np.concatenate([*bound(params, experiment.data.held_out, numbers)])
    assert rows.shape == (12, 9) and bound.terms == ("entropy", "prior", "reconstruction")
    np.testing.assert_allclose(rows[:, 5], rows[:, 6:].sum(1), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 1], rows[:, 5] / (64 * np.log(2)) + 8, rtol=1e-5)
    assert np.isfinite(rows[:, 3]).all() and not np.isclose(rows[:, 3], rows[:, 1]).any()
    again = np.concatenate([*bound(params, experiment.data.held_out, numbers, done=8)])
    np.testing.assert_array_equal(again, rows[8:])
    turned = np.concatenate([*bound(params, experiment.data.held_out, numbers[::-1])])
    np.testing.assert_allclose(turned[::-1], rows, rtol=1e-4)


REFUSED = [
    (
        {"likelihood__divergence": "exact"},
        r"divergence='exact' has no .*without an ODE unless likelihood\.solver='rk45'",
    ),
    ({"likelihood__importance_samples": 4}, r"importance_samples=4 asks for .* set them to 'rk45' and 'exact'"),
    ({"solver": "rk45", "likelihood__importance_samples": 4}, r"likelihood\.divergence='rademacher' has not that"),
    ({"solver": "rk45", "likelihood__t_min": 1e-3}, r"t_min=0\.001 has no meaning .* from training\.t_min on"),
    ({"solver": "rk45", "likelihood__bound_samples": 0}, r"bound_samples=0 has no meaning for system\.name='latent'"),
    ({"solver": "rk45", "likelihood__divergence": "exact", "likelihood__probes": 2}, r"probes=2 has no effect on"),
    ({"solver": "rk45", "likelihood__label": "each"}, r"label='each' compares likelihoods"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_has_no_meaning_is_refused(changes, words):
    own = {name.replace("solver", "likelihood__solver"): value for name, value in changes.items()}
    with pytest.raises(UsageError, match=words):
        check_likelihood(joint_config(**own))


def test_its_density_flatters_at_no_first_time():
    """Which is refused of a bound by denoising alone; but the network must know its level."""
    own = {"training__t_min": 1e-3, "likelihood__solver": "rk45"}
    check_likelihood(latent_config("runs/vae", **own))
    with pytest.raises(UsageError, match=r"training\.t_min=0\.001 lies below the least of the sde\.num_scales=100"):
        check_likelihood(latent_config("runs/vae", **own, sde__discrete=True, sde__num_scales=100))


def test_a_codebook_has_none():
    vae = coder()
    given = {field.name: getattr(vae, field.name) for field in dataclasses.fields(vae) if field.name != "parts"}
    system = Latent(**fields(autoencoder=FirstStage(**given, quantizer=VectorQuantizer(4, 0.25))))
    keys = example_keys(root_key(1), positions(0, 2))
    with pytest.raises(UsageError, match="a codebook's latents have no density"):
        FlowBound(system, Exact(), FINE).bound({}, keys, normals(2), {})
