"""Hierarchical autoencoders against recorded numbers, the exact posterior, and DDPM's bound on its own chain."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from score_sde.networks import MLP
from score_sde.objectives import variational
from score_sde.objectives.elbo import balance, kl_weight
from score_sde.objectives.variational import gaussian_decoder
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.posterior import Small, log_variances, model_mean
from score_sde.sde import denoiser, transition, vp
from score_sde.systems import VAE, Hierarchical
from score_sde.training.step import View
from tests.golden_files import load, quick_jit, relative_error
from tests.systems.test_vae import dense, golden

VIEW = View(jnp.int32(0), {}, {})


def constant(std: Any) -> dict[str, Any]:
    return {"bias": jnp.log(jnp.asarray(std, jnp.float64) ** 2)}


def linear(sizes: tuple[int, ...], up: list[Any], down: list[Any]) -> tuple[Hierarchical, Any]:
    """Levels of these sizes, x first; up and down: (matrix, offset, std [size]) each, from the lowest level."""
    wide: dict[str, Any] = {"hidden": (), "variance": "constant_diagonal", "dtype": jnp.float64}
    system = Hierarchical(
        (sizes[0],), (sizes[0],), tuple((n,) for n in sizes[1:]), tuple(MLP((n,), **wide) for n in sizes[1:]),
        tuple(MLP((n,), **wide) for n in sizes[:-1]),
    )  # fmt: skip
    law = lambda w, b, s: {"mean": dense(np.transpose(w), b), "log_variance": constant(s)}
    part = lambda laws: {str(i + 1): law(*one) for i, one in enumerate(laws)}
    return system, {"encoder": part(up), "decoder": part(down)}


@pytest.mark.usefixtures("float64")
class TestExact:
    def test_the_recorded_ratio(self):
        g = golden("hvae")
        up = [(g["enc_M1"], np.zeros(3), g["enc_std1"]), (g["enc_M2"], np.zeros(2), g["enc_std2"])]
        down = [(g["W1"], np.zeros(5), np.full(5, g["s1"])), (g["W2"], np.zeros(3), np.full(3, g["s2"]))]
        system, params = linear((5, 3, 2), up, down)
        x, noise = jnp.asarray(g["x"]), [jnp.asarray(g["eps1"]), jnp.asarray(g["eps2"])]
        assert relative_error(system.log_ratio(params, x, noise), g["log_ratio"]) < 1e-12
        covariance = g["W1"] @ (g["W2"] @ g["W2"].T + g["s2"] ** 2 * np.eye(3)) @ g["W1"].T + g["s1"] ** 2 * np.eye(5)
        np.testing.assert_allclose(multivariate_normal(cov=covariance).logpdf(g["x"]), g["log_p"], rtol=1e-12)

    def test_the_exact_markov_posterior_makes_every_ratio_log_p(self):
        """Of rows that are kept apart, so that q(z_2 | z_1) and q(z_1 | x), with z_2 out of it, are uncorrelated."""
        generator = np.random.default_rng(0)
        columns, rotation = np.linalg.svd(generator.normal(size=(5, 3)), full_matrices=False)[0], np.eye(3)
        a, b, s1, s2 = np.array([1.5, 1.0, 0.5]), np.array([0.9, 0.4, 0.2]), 0.3, 0.7
        marginal = b**2 + s2**2  # of z_1
        inner = marginal * a / (a**2 * marginal + s1**2)
        up = [
            ((columns * inner).T, np.zeros(3), np.sqrt(marginal * (1 - a * inner))),
            (np.diag(b / marginal), np.zeros(3), np.sqrt(1 - b**2 / marginal)),
        ]
        down = [(columns * a, np.zeros(5), np.full(5, s1)), (rotation * b, np.zeros(3), np.full(3, s2))]
        system, params = linear((5, 3, 3), up, down)
        x = generator.normal(size=(4, 5))
        covariance: Any = (columns * a**2 * marginal) @ columns.T + s1**2 * np.eye(5)
        log_p = multivariate_normal(np.zeros(5), covariance).logpdf(x)
        for _ in range(3):
            noise = [jnp.asarray(generator.normal(size=(4, 3))) for _ in range(2)]
            np.testing.assert_allclose(system.log_ratio(params, jnp.asarray(x), noise), log_p, rtol=1e-12)

    @pytest.mark.parametrize("levels", [2, 3])
    def test_with_the_fixed_chain_as_its_encoder_it_is_ddpms_bound(self, levels):
        """Both by Gauss and Hermite, which is exact for squares: the whole expectation over the chain, on any x.

        The encoder is the VP process at a grid of times, the decoders are a linear score's steps with the small
        variance; the other side is `variational_bound`, whose terms meet one level each.
        """
        process, times = vp(0.1, 8.0), jnp.linspace(1.0, 0.1, levels)
        score = lambda x, t: -0.8 * x / (1 + 0.1 * _like(t, x))
        x0 = jnp.asarray([[0.7, -1.3]])
        system, params = chain(process, score, times)
        nodes, weights = np.polynomial.hermite_e.hermegauss(4)
        weights = weights / weights.sum()
        # Elements are independent: all of a level's may share one node.
        evidence, mine = quick_jit(lambda noise: system.evidence(params, x0, noise)), 0.0
        for places in itertools.product(range(4), repeat=levels):
            noise = [jnp.full((1, 2), nodes[i]) for i in places]
            reconstruction, kls = evidence(noise)
            mine += np.prod(weights[list(places)]) * float((reconstruction + kls.sum(1))[0])
        theirs = self.expected(process, score, x0, times, nodes, weights)
        assert mine == pytest.approx(theirs, rel=1e-9)

    def expected(self, process, score, x0, times, nodes, weights):
        """The bound's terms as `variational_bound` sums them, each over its own x_t."""

        def bound(node):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(variational, "normal", lambda keys, shape, dtype: jnp.full((1, *shape), node, dtype))
                keys = example_keys(root_key(0), positions(0, 1))
                options = {"times": times, "variance": Small(), "decoder": gaussian_decoder}
                return variational.variational_bound(keys, score, process, x0, **options).total[0]

        bound = quick_jit(bound)
        return sum(weight * float(bound(jnp.asarray(node))) for node, weight in zip(nodes, weights))


def _like(t: Any, x: Any) -> Any:
    t = jnp.asarray(t)
    return t if t.ndim == 0 else t.reshape((-1,) + (1,) * (x.ndim - 1))


def chain(process: Any, score: Any, times: Any) -> tuple[Hierarchical, Any]:
    """z_i at the i-th least of the times; the decoders are a linear score's means with the small variances."""
    rising, size = times[::-1], 2
    one = jnp.ones((1, size))
    up, down = [], []
    for i, t in enumerate(rising):
        a, b = (process.alpha(t), process.sigma(t)) if i == 0 else transition(process, rising[i - 1], t)
        up.append((float(a) * np.eye(size), np.zeros(size), np.full(size, float(b))))
        if i == 0:
            gain = denoiser(process, score)(one, jnp.full(1, t))
            variance = log_variances(process, t, rising[1])[0]
        else:
            gain = model_mean(process, one, score(one, t), rising[i - 1], t)
            variance = log_variances(process, rising[i - 1], t)[0]
        down.append((float(gain[0, 0]) * np.eye(size), np.zeros(size), np.full(size, float(jnp.exp(0.5 * variance)))))
    return linear((size,) * (len(rising) + 1), up, down)


def small(**changes: Any) -> tuple[Hierarchical, Any]:
    system = Hierarchical(
        (6,), (6,), ((4,), (2,)), (MLP((4,), (8,)), MLP((2,), (8,))),
        (MLP((6,), (8,), "scalar"), MLP((4,), (8,))), **changes,
    )  # fmt: skip
    return system, quick_jit(system.init)(root_key(0), {})


@pytest.fixture(scope="module")
def examples():
    return jax.random.normal(jax.random.key(0), (5, 6)), example_keys(root_key(1), positions(0, 5))


def test_one_level_is_the_autoencoder(examples):
    x, keys = examples
    coders = MLP((3,), (8,)), MLP((6,), (8,), "scalar")
    one = Hierarchical((6,), (6,), ((3,),), coders[:1], coders[1:])
    other = VAE((6,), (6,), (3,), *coders)
    params = other.init(root_key(0), {})
    levels = {part: {"1": tree} for part, tree in params.items()}
    noise = other.noise(keys)
    expected = other.evidence(params, x, noise)
    found = one.evidence(levels, x, [noise])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1][:, 0], expected[1].sum(1), rtol=1e-6)
    np.testing.assert_allclose(one.log_ratio(levels, x, [noise]), other.log_ratio(params, x, noise), rtol=1e-6)


def test_the_loss_is_the_bound_and_in_training_weighs_and_balances(examples):
    x, keys = examples
    (system, params), none = small(), jnp.zeros(5)
    bound, terms = quick_jit(system.bound)(params, keys, x, {})
    assert set(terms) == {"reconstruction", "kl_1", "kl_2"}
    np.testing.assert_allclose(bound, sum(terms.values()), rtol=1e-6)
    np.testing.assert_allclose(quick_jit(system.losses)(params, VIEW, keys, x, {}, none)[0], bound, rtol=1e-6)
    levels = np.stack([terms["kl_1"], terms["kl_2"]], 1)
    slow, _ = small(warmup=10, balanced=True)
    at = quick_jit(lambda step: slow.losses(params, View(step, {}, {}), keys, x, {}, none)[0])
    expected = 0.5 * (np.asarray(balance(jnp.asarray(levels), jnp.asarray([2.0, 1.0]))) * levels).sum(1)
    np.testing.assert_allclose(at(jnp.int32(5)), terms["reconstruction"] + expected, rtol=1e-5)
    np.testing.assert_allclose(at(jnp.int32(10)), bound, rtol=1e-6)
    free, _ = small(free_bits=0.5)
    loss = quick_jit(free.losses)(params, VIEW, keys, x, {}, none)[0]
    np.testing.assert_allclose(loss, terms["reconstruction"] + np.maximum(levels, 0.5).sum(1), rtol=1e-5)


def test_an_example_does_not_depend_on_its_batch(examples):
    x, keys = examples
    system, params = small(balanced=True, warmup=10)
    view = View(jnp.int32(3), {}, {})
    losses, draw = quick_jit(system.losses), quick_jit(system.draw)
    whole = losses(params, view, keys, x, {}, jnp.zeros(5))[0]
    part = losses(params, view, keys[3:], x[3:], {}, jnp.zeros(2))[0]
    np.testing.assert_allclose(part, whole[3:], rtol=2e-6)
    drawn = draw(params, keys, {})
    assert int(drawn.evaluations) == 2
    np.testing.assert_allclose(draw(params, keys[3:], {}).x, drawn.x[3:], rtol=2e-5, atol=1e-6)


@pytest.mark.usefixtures("float64")
class TestWeights:
    def test_the_warm_up_is_lsgms(self):
        arrays = load("lsgm", "systems")
        step, value = jnp.asarray(arrays["kl_coeff__step"]), arrays["kl_coeff__value"]
        np.testing.assert_allclose(kl_weight(step, 800, 100, 1e-4, 0.7), value, rtol=1e-12)
        assert float(kl_weight(jnp.int64(0), 0)) == 1.0

    def test_the_balance_is_theirs_given_means_over_a_batch(self):
        """Which they take; here every example has its own."""
        g = {name.split("__")[1]: value for name, value in load("lsgm", "systems").items() if "kl_balancer__" in name}
        kl, alpha = jnp.asarray(g["kl_all"]), jnp.asarray(load("lsgm", "systems")["kl_balancer_coeff_square"])
        found = balance(jnp.abs(kl).mean(1), alpha)
        np.testing.assert_allclose(found, g["coeffs"], rtol=1e-12)
        np.testing.assert_allclose(0.3 * (found[:, None] * kl).sum(0), g["kl"], rtol=1e-12)
