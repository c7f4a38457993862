"""Variational autoencoders against recorded numbers, and against models whose likelihood is known."""

import dataclasses
import importlib.resources
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from score_sde.networks import MLP, Decoder, Encoder
from score_sde.objectives.variational import kl
from score_sde.rng import example_keys, positions, root_key
from score_sde.systems import VAE
from score_sde.systems.autoencoder import log_normal
from score_sde.training.step import View
from tests.golden_files import load, quick_jit, relative_error

TOLERANCE = 1e-12
"""Of what is recorded in float64."""
VIEW = View(jnp.int32(0), {}, {})


def golden(group: str) -> dict[str, Any]:
    arrays = load("vae", "systems").items()
    return {name.split("__", 1)[1]: value for name, value in arrays if name.startswith(f"{group}__")}


def vae(size: int, latent: int, hidden: tuple[int, ...], variances: tuple[str, str], **changes: Any) -> VAE:
    """Of vectors [size], in double precision."""
    encoder = MLP((latent,), hidden, variances[0], dtype=jnp.float64)
    decoder = MLP((size,), hidden, variances[1], dtype=jnp.float64)
    return VAE((size,), (size,), (latent,), encoder, decoder, **changes)


def dense(kernel: Any, bias: Any) -> dict[str, Any]:
    return {"kernel": jnp.asarray(kernel, jnp.float64), "bias": jnp.asarray(bias, jnp.float64)}


def linear(weights: Any, bias: Any, std: Any, matrix: Any, offset: Any, encoder_std: Any) -> Any:
    """x = W z + b + std eps with q(z | x) = N(M x + c, encoder_std^2), as parameters."""
    log = lambda s: {"bias": 2 * jnp.log(jnp.asarray(s, jnp.float64))}
    encoder = {"mean": dense(np.transpose(matrix), offset), "log_variance": log(encoder_std)}
    return {"encoder": encoder, "decoder": {"mean": dense(np.transpose(weights), bias), "log_variance": log([std])}}


LINEAR = ("constant_diagonal", "constant_scalar")


@pytest.mark.usefixtures("float64")
class TestRecorded:
    @pytest.mark.parametrize("group", ["lecture", "lecture_scalar"])
    def test_the_lectures_network(self, group):
        """Its ELBO, its terms and the gradient of its negative mean, with one variance for each latent or for all."""
        g = golden("lecture")
        system = vae(16, 3, (8,), ("diagonal" if group == "lecture" else "scalar", "scalar"))
        w = {name.removeprefix("params/"): value for name, value in g.items() if name.startswith("params/")}
        columns = slice(None) if group == "lecture" else slice(0, 1)
        layer = lambda i, c=slice(None): dense(w[f"W{i}"][:, c], w[f"b{i}"][c])
        part = lambda hidden, c=slice(None): {
            "Dense_0": layer(hidden), "mean": layer(hidden + 1), "log_variance": {"Dense_0": layer(hidden + 2, c)}
        }  # fmt: skip
        params = {"encoder": part(4, columns), "decoder": part(1)}
        x, eps, expected = jnp.asarray(g["x"]), jnp.asarray(g["eps"]), golden(group)
        reconstruction, divergence = system.evidence(params, x, eps)
        if group == "lecture_scalar":
            assert divergence.shape == (4, 3)
        assert relative_error(-reconstruction, expected["log_p_x_given_z"]) < TOLERANCE
        assert relative_error(divergence.sum(1), expected["kl"]) < TOLERANCE
        assert relative_error(-reconstruction - divergence.sum(1), expected["elbo"]) < TOLERANCE
        mean = lambda p: sum(part.sum() for part in system.evidence(p, x, eps)) / len(x)
        found = quick_jit(jax.grad(mean))(params)
        places = {
            "1": found["decoder"]["Dense_0"], "2": found["decoder"]["mean"],
            "3": found["decoder"]["log_variance"]["Dense_0"], "4": found["encoder"]["Dense_0"],
            "5": found["encoder"]["mean"], "6": found["encoder"]["log_variance"]["Dense_0"],
        }  # fmt: skip
        for number, place in places.items():
            for letter, part in (("W", "kernel"), ("b", "bias")):
                wanted = expected[f"grad_minus_mean_elbo/{letter}{number}"]
                assert relative_error(place[part], wanted[..., columns] if number == "6" else wanted) < TOLERANCE

    def test_the_linear_gaussian_model(self):
        """Its terms at recorded draws; ELBO + KL(q || posterior) is log p(x), and with the posterior all ratios are."""
        g = golden("linear")
        system, x = vae(6, 3, (), LINEAR), jnp.asarray(g["x"])
        params = linear(g["W"], g["b"], g["sigma"], g["enc_M"], g["enc_c"], g["enc_std"])
        for k in range(4):
            reconstruction, divergence = system.evidence(params, x, jnp.asarray(g["eps"][:, k]))
            assert relative_error(-reconstruction, g["log_p_x_given_z"][:, k]) < TOLERANCE
            assert relative_error(divergence.sum(1), g["kl"]) < TOLERANCE
        elbo = -exact_bound(g["W"], g["b"], g["sigma"], params, np.asarray(x))
        mean, covariance = posterior(g["W"], g["b"], g["sigma"], np.asarray(x))
        mu = np.asarray(system.encode(params, x)[0])
        gap = [gaussian_kl(m, np.diag(g["enc_std"] ** 2), n, covariance) for m, n in zip(mu, mean)]
        np.testing.assert_allclose(elbo + gap, g["log_p"], rtol=1e-12)

    def test_the_exact_posterior_makes_every_ratio_log_p(self):
        """Without Monte Carlo. W with orthogonal columns, so that the posterior has no correlations."""
        g, generator = golden("linear"), np.random.default_rng(0)
        weights = np.linalg.svd(g["W"], full_matrices=False)[0] * np.array([2.0, 1.0, 0.5])
        log_p = multivariate_normal(g["b"], weights @ weights.T + g["sigma"] ** 2 * np.eye(6)).logpdf(g["x"])
        precision = 1 + (weights**2).sum(0) / g["sigma"] ** 2
        matrix = (weights / precision).T / g["sigma"] ** 2
        params = linear(weights, g["b"], g["sigma"], matrix, -matrix @ g["b"], precision**-0.5)
        system, x = vae(6, 3, (), LINEAR), jnp.asarray(g["x"])
        for _ in range(3):
            found = system.log_ratio(params, x, jnp.asarray(generator.normal(size=(5, 3))))
            np.testing.assert_allclose(found, log_p, rtol=1e-13)
        keys = example_keys(root_key(0), positions(0, 5))
        weighted = system.importance_weighted(params, keys, x, {}, samples=3)
        np.testing.assert_allclose(weighted, -log_p, rtol=1e-12)

    @pytest.mark.parametrize("d", [2, 8, 16])
    def test_probabilistic_pca(self, d):
        """scikit-learn's models of the digits: every ratio of a linear autoencoder at the optimum is their log p(x)."""
        g, (train, test) = golden(f"ppca_{d}"), parts()
        values, vectors = spectrum(train, ddof=1)
        assert values[d:].mean() == pytest.approx(float(g["noise_variance"]), rel=1e-9)
        found = [ratios(optimum(train, values, vectors, d), x, seed) for seed, x in enumerate((train, test))]
        np.testing.assert_allclose(found[1][:8], g["score_samples_test_first8"], rtol=1e-9)
        assert found[0].mean() == pytest.approx(float(g["score_train"]), rel=1e-9)
        assert found[1].mean() == pytest.approx(float(g["score_test"]), rel=1e-9)

    @pytest.mark.parametrize("d", [2, 8])
    def test_factor_analysis(self, d):
        """A variance for each pixel: at the maximum of the likelihood, found by EM, as scikit-learn's up to its own."""
        x = parts()[0]
        x = x + 0.05 * np.random.default_rng(int(golden("fa")["noise_seed"])).normal(size=x.shape)
        found = ratios(maximised(x, d), x, d).mean()
        assert found == pytest.approx(float(golden(f"fa_{d}")["score_train"]), rel=1e-8)

    def test_two_gaussians(self):
        """vdvae's KL by log deviations."""
        g = golden("vdvae")
        found = kl(jnp.asarray(g["mu1"]), 2 * g["logsigma1"], jnp.asarray(g["mu2"]), 2 * g["logsigma2"])
        assert relative_error(found, g["kl"]) < TOLERANCE


def tiny(**changes: Any) -> tuple[VAE, Any]:
    """Of vectors [6] with 3 latents, and its parameters."""
    encoder, decoder = MLP((3,), (8,)), MLP((6,), (8,), "scalar")
    system = VAE((6,), (6,), (3,), encoder, decoder, **changes)
    return system, quick_jit(system.init)(root_key(0), {})


@pytest.fixture(scope="module")
def examples():
    return jax.random.normal(jax.random.key(0), (5, 6)), example_keys(root_key(1), positions(0, 5))


def test_the_loss_is_the_bound_and_in_training_weighs_kl(examples):
    x, keys = examples
    (system, params), none = tiny(), jnp.zeros(5)
    bound, terms = quick_jit(system.bound)(params, keys, x, {})
    np.testing.assert_allclose(bound, terms["reconstruction"] + terms["kl"], rtol=1e-6)
    loss, _ = quick_jit(system.losses)(params, VIEW, keys, x, {}, none)
    np.testing.assert_allclose(loss, bound, rtol=1e-6)
    slow, _ = tiny(warmup=100, warmup_after=10)
    training, held_out = (
        quick_jit(lambda step, training=t: slow.losses(params, View(step, {}, {}), keys, x, {}, none, training))
        for t in (True, False)
    )
    for step, weight in ((0, 0.0), (10, 0.0), (35, 0.25), (110, 1.0), (900, 1.0)):
        loss, seen = training(jnp.int32(step))
        np.testing.assert_allclose(loss, terms["reconstruction"] + weight * terms["kl"], rtol=1e-5)
        np.testing.assert_allclose(seen["kl"], terms["kl"], rtol=1e-6)
        np.testing.assert_allclose(held_out(jnp.int32(step))[0], bound, rtol=1e-6)


def test_free_bits_hold_every_element_of_z(examples):
    """Of each example alone: its gradient in what has less KL than that is none."""
    x, keys = examples
    (system, params), (free, _) = tiny(), tiny(free_bits=0.3)
    reconstruction, divergence = quick_jit(system.evidence)(params, x, system.noise(keys))
    loss, terms = quick_jit(free.losses)(params, VIEW, keys, x, {}, jnp.zeros(5))
    np.testing.assert_allclose(loss, reconstruction + np.maximum(divergence, 0.3).sum(1), rtol=1e-5)
    np.testing.assert_allclose(terms["kl"], divergence.sum(1), rtol=1e-5)
    assert (divergence < 0.3).any() and (divergence > 0.3).any()


def test_more_draws_bound_more_closely(examples):
    """Of draws shared by none: the mean of 1 is the bound's, and it falls with their number."""
    x, _ = examples
    system, params = tiny()
    x, keys = jnp.repeat(x[:1], 2000, axis=0), example_keys(root_key(2), positions(0, 2000))
    weighted = lambda k: quick_jit(lambda: system.importance_weighted(params, keys, x, {}, samples=k))()
    means, bound = [weighted(k).mean() for k in (1, 4, 32)], quick_jit(system.bound)(params, keys, x, {})[0]
    assert means[0] == pytest.approx(float(bound.mean()), abs=4 * float(bound.std()) / 2000**0.5)
    assert means[0] > means[1] + 0.01 and means[1] > means[2]


def test_an_example_does_not_depend_on_its_batch(examples):
    x, keys = examples
    system, params = tiny()
    bound, draw = quick_jit(system.bound), quick_jit(system.draw)
    np.testing.assert_allclose(bound(params, keys[3:], x[3:], {})[0], bound(params, keys, x, {})[0][3:], rtol=2e-6)
    drawn = draw(params, keys, {}).x
    np.testing.assert_allclose(draw(params, keys[3:], {}).x, drawn[3:], rtol=2e-5, atol=1e-6)


def test_samples_have_the_decoders_noise_or_not(examples):
    """Of one prior draw: the difference is standard normal in units of the decoder's deviation."""
    system, params = tiny()
    keys = example_keys(root_key(3), positions(0, 3000))
    drawn = lambda n: quick_jit(dataclasses.replace(system, noisy=lambda: n).draw)(params, keys, {}).x
    noisy, mean = drawn(True), drawn(False)
    z = (noisy - mean).ravel()  # the variance of a fresh decoder is 1
    assert abs(float(z.mean())) < 0.03 and float(z.var()) == pytest.approx(1, abs=0.04)


def test_reconstructions_and_what_lies_between(examples):
    x, _ = examples
    system, params = tiny()
    ends = [system.reconstruct(params, part) for part in (x[:2], x[2:4])]
    for weight, expected in ((0.0, ends[0]), (1.0, ends[1])):
        found = system.interpolate(params, x[:2], x[2:4], jnp.full(2, weight))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    middle = system.interpolate(params, x[:2], x[2:4], jnp.full(2, 0.5))
    z = [system.encode(params, part)[0] for part in (x[:2], x[2:4])]
    np.testing.assert_allclose(middle, system.decode(params, (z[0] + z[1]) / 2)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("latent", [(5,), (7, 7, 2)])
@pytest.mark.parametrize("variance", ["scalar", "diagonal", "constant_scalar", "constant_diagonal"])
def test_convolutional_ones(latent, variance):
    """Shapes of flat latents and of those that keep places; a fresh one's KL is of its mean alone, its variances 1."""
    common = {"nf": 4, "ch_mult": (1, 1, 2)}
    system = VAE(
        (28, 28), (28, 28, 1), latent, Encoder(latent, variance=variance, **common),
        Decoder((28, 28, 1), variance=variance, **common),
    )  # fmt: skip
    shapes = jax.eval_shape(lambda: system.init(root_key(0), {}))
    params = jax.tree.map(lambda a: jnp.full(a.shape, 0.01), shapes)
    x = jnp.ones((2, 28, 28))
    mean, log_variance = jax.eval_shape(system.encode, params, x)
    assert mean.shape == (2, *latent) and np.broadcast_shapes(log_variance.shape, mean.shape) == mean.shape
    law = jax.eval_shape(system.decode, params, mean)
    assert law[0].shape == (2, 28, 28) and np.broadcast_shapes(law[1].shape, law[0].shape) == law[0].shape


def test_a_latent_of_other_places_is_refused():
    with pytest.raises(ValueError, match=r"the last level is 14x14, not the latent \(7, 7, 2\)"):
        jax.eval_shape(Encoder((7, 7, 2), nf=4, ch_mult=(1, 1)).init, root_key(0), jnp.ones((1, 28, 28, 1)))
    with pytest.raises(ValueError, match="images of 28x28 cannot be halved 3 times"):
        jax.eval_shape(Decoder((28, 28, 1), nf=4, ch_mult=(1, 1, 1, 1)).init, root_key(0), jnp.ones((1, 5)))
    with pytest.raises(ValueError, match="variance is 'none': choose one of scalar"):
        MLP((2,), variance="none")


def test_a_fresh_variance_is_one():
    for network, x in ((Encoder((5,), nf=4, ch_mult=(1, 1)), jnp.ones((2, 8, 8, 1))), (MLP((5,)), jnp.ones((2, 3)))):
        _, log_variance = quick_jit(network.init_with_output)(root_key(0), x)[0]
        assert float(jnp.abs(log_variance).max()) < 1e-3
    assert float(log_normal(jnp.zeros((1, 4)))[0]) == pytest.approx(-2 * math.log(2 * math.pi))


def exact_bound(weights: Any, bias: Any, sigma: float, params: Any, x: np.ndarray) -> np.ndarray:
    """-ELBO [B] of a linear autoencoder, its expectation over z in closed form."""
    encoder = params["encoder"]
    mean = x @ np.asarray(encoder["mean"]["kernel"]) + np.asarray(encoder["mean"]["bias"])
    variance = np.exp(np.asarray(encoder["log_variance"]["bias"]))
    squares = ((x - mean @ weights.T - bias) ** 2).sum(1) + (weights**2 @ variance).sum()
    reconstruction = 0.5 * squares / sigma**2 + 0.5 * x.shape[1] * math.log(2 * math.pi * sigma**2)
    return reconstruction + 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(1)


def posterior(weights: Any, bias: Any, sigma: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means [B, d] and the covariance of p(z | x)."""
    covariance = np.linalg.inv(np.eye(weights.shape[1]) + weights.T @ weights / sigma**2)
    return (x - bias) @ weights @ covariance / sigma**2, covariance


def gaussian_kl(mean: Any, covariance: Any, other: Any, other_covariance: Any) -> float:
    """KL between two Gaussians, of any covariance."""
    inverse, step = np.linalg.inv(other_covariance), other - mean
    logs = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (np.trace(inverse @ covariance) + step @ inverse @ step - len(mean) + logs)


def counts() -> np.ndarray:
    """The digits as distributed, float64 [1797, 64] of 0 to 16."""
    with importlib.resources.files("score_sde.data").joinpath("digits.npz").open("rb") as file:
        return np.load(file)["images"].reshape(-1, 64).astype(np.float64)


def parts() -> tuple[np.ndarray, np.ndarray]:
    """The examples over 16 that the recorded models are of, and the others."""
    x, rows = counts() / 16, golden("ppca")["train_rows"]
    return x[rows], np.delete(x, rows, axis=0)


def spectrum(x: np.ndarray, ddof: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, the largest first, and eigenvectors of the covariance of x [N, D]."""
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=ddof))
    return values[::-1], vectors[:, ::-1]


def optimum(x: np.ndarray, values: np.ndarray, vectors: np.ndarray, d: int) -> Any:
    """The maximum of the likelihood with its posterior, as parameters (Tipping & Bishop 1999)."""
    variance = values[d:].mean()
    return diagonal(vectors[:, :d] * np.sqrt(values[:d] - variance), x.mean(0), np.full(len(values), variance))


def diagonal(weights: np.ndarray, bias: np.ndarray, variance: np.ndarray) -> Any:
    """x = W z + b + noise of this variance for each element, with its posterior, its latents independent."""
    scaled = weights / np.sqrt(variance)[:, None]
    weights = weights @ np.linalg.svd(scaled, full_matrices=False)[2].T
    precision = 1 + (weights**2 / variance[:, None]).sum(0)
    matrix = (weights / variance[:, None] / precision).T
    params = linear(weights, bias, 1.0, matrix, -matrix @ bias, precision**-0.5)
    params["decoder"]["log_variance"]["bias"] = jnp.log(jnp.asarray(variance))
    return params


def ratios(params: Any, x: np.ndarray, seed: int) -> np.ndarray:
    """log p(x, z) / q(z | x) [B] at one draw of z each."""
    d = params["encoder"]["mean"]["kernel"].shape[1]
    system = vae(x.shape[1], d, (), ("constant_diagonal", "constant_diagonal"))
    noise = np.random.default_rng(seed).normal(size=(len(x), d))
    return np.asarray(system.log_ratio(params, jnp.asarray(x), jnp.asarray(noise)))


def maximised(x: np.ndarray, d: int) -> Any:
    """Factor analysis by EM (Rubin & Thayer 1982)."""
    bias, covariance = x.mean(0), np.cov(x.T, ddof=0)
    variance, weights = np.diag(covariance).copy(), np.random.default_rng(0).normal(size=(x.shape[1], d))
    for _ in range(1000):
        inner = np.linalg.inv(np.eye(d) + weights.T @ (weights / variance[:, None]))
        beta = inner @ (weights / variance[:, None]).T
        weights = covariance @ beta.T @ np.linalg.inv(inner + beta @ covariance @ beta.T)
        variance = np.diag(covariance - weights @ beta @ covariance).copy()
    return diagonal(weights, bias, variance)
