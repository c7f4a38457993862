"""All that samples are asked for at once: a label, a classifier, a function and a measurement, by exact posteriors.

Components are N(m_k, I), so that whatever leads to one of them, or tilts it, is Gaussian again: lambda of
classifier-free guidance moves its mean to m_u + lambda (m_k - m_u), a log-density b . x_0 by b. Posterior scores that
are exact of Gaussian data must then give the score of that Gaussian's posterior.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config.validation import validate
from score_sde.errors import UsageError
from score_sde.experiment import build, objects
from score_sde.experiment.frozen import Frozen, Record
from score_sde.experiment.generation import Generator
from score_sde.rng import positions
from score_sde.sde.analytic import gaussian, mixture
from score_sde.sde.conditioning import condition
from tests.systems.test_classifier import OPTIONS
from tests.tiny import tiny_config, trained_run, with_network

SHAPE = (4, 4, 1)
MEANS = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("f")
LAW = mixture(jnp.array([0.3, 0.7]), jnp.asarray(MEANS), jnp.ones(2))
U = MEANS[0] - 1
"""The mean of the null label's Gaussian."""
B = np.random.default_rng(1).normal(size=SHAPE).astype("f") / 2
NOISE, KNOWN, CLASS = 0.5, np.eye(4), 1


def tilt(x0):
    """log p(z | x_0) up to a constant."""
    return jnp.sum(x0 * B[None], (1, 2, 3))


class Denoiser(nn.Module):
    """Of the whole mixture where it is told no labels; else of N(m_k, I), and of N(u, I) for the null label."""

    @nn.compact
    def __call__(self, x, label, sigma, dropout_keys=None, condition=None):
        self.param("none", nn.initializers.zeros, (1,))
        if not condition:
            return jax.vmap(lambda x, t: LAW.denoiser(sde())(x[None], t)[0])(x, sigma)
        means = jnp.concatenate([jnp.asarray(MEANS), jnp.asarray(U)[None]])[condition["label"]]
        variance = sigma[:, None, None, None] ** 2
        return (x + variance * means) / (1 + variance)


class Logits(nn.Module):
    """log p_t(k | x) of the mixture's components, told sigma."""

    @nn.compact
    def __call__(self, x, label):
        self.param("none", nn.initializers.zeros, (1,))
        return LAW.log_responsibilities(sde())(x, label)


def sde():
    return objects.SDES["edm"](tiny_config().sde)


def made(tmp_path, monkeypatch, labels: bool, classifier: bool, **changes):
    monkeypatch.setitem(objects.NETWORKS, "wideresnet", lambda c, s: Logits())
    x = np.random.default_rng(2).normal(size=(8, *SHAPE)).astype("f")
    np.savez(tmp_path / "data.npz", train=x, label=np.arange(8) % 2)
    np.savez(tmp_path / "y.npz", y=seen(), mask=KNOWN, sigma_y=NOISE)
    data = {"name": "array", "path": str(tmp_path / "data.npz"), "mean": (0.0,), "std": (1.0,)}
    shared = {f"data__{name}": value for name, value in {**data, "random_flip": False}.items()}
    shared |= {"data__uniform_dequantization": False, "sde__name": "edm", "training__times": "log_normal"}
    shared |= {"sampling__times": "log_snr"}
    config = tiny_config(
        **shared, network__attn_resolutions=(4,), parametrization__prediction="denoiser", network__dropout=0.0,
        parametrization__label="log_sigma", measurement__name="inpaint", measurement__path=str(tmp_path / "y.npz"),
        sampling__label=str(CLASS) if labels or classifier else "", sampling__t_min=0.01,
        sampling__solver="exponential_euler_maruyama", **changes,
    )  # fmt: skip
    if labels:
        config.data.condition, config.network.label_dropout = ("label",), 0.1
    if classifier:
        run = trained_run(tmp_path / "classifier", tiny_config(**{**shared, **OPTIONS}))
        config.frozen.classifier, config.guidance.classifier_scale = str(run.path), 1.0
    return with_network(build(config), Denoiser())


def seen() -> np.ndarray:
    return np.where(KNOWN[..., None] > 0, np.random.default_rng(3).normal(size=SHAPE), 0)


def posterior(mean: np.ndarray):
    rows = np.flatnonzero(KNOWN.reshape(-1))
    A = jnp.eye(16)[rows]
    return condition(gaussian(jnp.asarray(mean), jnp.eye(16)), A, jnp.asarray(seen().reshape(-1)[rows], "f"), NOISE)


CASES = {
    "label": (True, False, {}, MEANS[CLASS]),
    "two labels": (True, False, {"guidance__scale": 2.0}, 2 * MEANS[CLASS] - U),
    "classifier": (False, True, {}, MEANS[CLASS]),
    "label and function": (True, False, {"guidance__log_prob": "tests.experiment.test_composing.tilt"}, MEANS[1] + B),
    "all but labels": (
        False,
        True,
        {"guidance__log_prob": "tests.experiment.test_composing.tilt", "guidance__log_prob_scale": 0.5},
        MEANS[CLASS] + B / 2,
    ),
    "labels and function": (
        True,
        False,
        {"guidance__scale": 1.5, "guidance__log_prob": "tests.experiment.test_composing.tilt"},
        U + 1.5 * (MEANS[CLASS] - U) + B,
    ),
}


@pytest.mark.parametrize(
    ("case", "method"),
    [(case, "pigdm") for case in CASES]
    + [(case, method) for case in ("all but labels", "labels and function") for method in ("matched", "mmps", "tmpd")],
)
def test_the_score_of_all_of_it_is_that_of_the_exact_posterior(case, method, tmp_path, monkeypatch):
    labels, classifier, changes, mean = CASES[case]
    experiment = made(tmp_path, monkeypatch, labels, classifier, guidance__method=method, **changes)
    if method in ("matched", "mmps"):
        experiment.config.guidance.products = 8
    params, given = experiment.init_params(), experiment.conditions(positions(0, 2))
    score, _, _ = experiment.drawing.prepared(experiment.score_system, params, given)
    x, law = jax.random.normal(jax.random.key(4), (2, *SHAPE)), posterior(mean)
    for t in (0.3, 2.0):
        exact = law.score(experiment.sde)(x, jnp.float32(t))
        np.testing.assert_allclose(jax.jit(score)(x, jnp.float32(t)), exact, atol=2e-3 * np.abs(exact).max())


def test_samples_of_all_of_it_have_the_posteriors_law_and_are_counted(tmp_path, monkeypatch):
    labels, classifier, changes, mean = CASES["all but labels"]
    changes = {**changes, "guidance__method": "pigdm", "sampling__num_steps": 100, "sampling__num_samples": 2048}
    experiment = made(tmp_path, monkeypatch, labels, classifier, sampling__batch_size=2048, **changes)
    drawn = Generator(experiment)(experiment.init_params(), 2048, show=False)
    assert drawn.evaluations == 2 * 101 and drawn.condition.keys() == {"label", "measurement"}
    exact, covariance = posterior(mean).moments()
    spread = np.sqrt(np.diag(covariance))
    found = drawn.x.reshape(2048, -1)
    assert np.abs((found.mean(0) - exact.reshape(-1)) / spread).max() < 6 / np.sqrt(2048)
    assert np.abs(np.cov(found.T) / spread[:, None] / spread[None] - np.eye(16)).max() < 0.15


def test_particles_are_led_by_all_of_it_and_counted(tmp_path, monkeypatch):
    options = {"guidance__scale": 2.0, "guidance__particles": 4, "guidance__method": "pigdm", "sampling__num_steps": 20}
    experiment = made(tmp_path, monkeypatch, True, False, **options)
    drawn = Generator(experiment)(experiment.init_params(), 256, show=False)
    exact, covariance = posterior(CASES["two labels"][3]).moments()
    distance = (drawn.x.mean(0) - exact).reshape(-1) / np.sqrt(np.diag(covariance))
    assert drawn.evaluations == 2 * 4 * 21 and np.abs(distance).max() < 6 / np.sqrt(256)
    experiment.config.guidance.update(interval=(0.5, 5.0), interval_by="evaluation")
    limited = Generator(experiment)(experiment.init_params(), 8, show=False).evaluations
    assert 4 * 21 < limited < 2 * 4 * 21 and limited % 4 == 0
    experiment.config.guidance.interval_by = "step"
    with pytest.raises(UsageError, match=r"by steps is not for guidance\.particles=4, .* guidance\.interval_by"):
        validate(experiment.config)


@pytest.mark.parametrize("method", ["matched", "mmps", "tmpd", "diffpir"])
def test_networks_of_convolutions_compose_too(method, tmp_path, monkeypatch):
    """Their slopes are taken in modes that both networks must have in the forms that they are run in."""
    function = {"guidance__log_prob": "tests.experiment.test_composing.tilt_of_digits"}
    np.savez(tmp_path / "y.npz", y=np.zeros((8, 8)), mask=np.eye(8), sigma_y=8.0)
    other = build(tiny_config(**OPTIONS))
    config = tiny_config(
        measurement__name="inpaint",
        measurement__path=str(tmp_path / "y.npz"),
        guidance__method=method,
        **function,
        network__attn_resolutions=(),
    )
    experiment = build(config)
    config.sampling.label, config.guidance.classifier_scale = "3", 1.0
    parts = {"classifier": Frozen(Record("", 0, "", ""), other, other.init_params())}
    drawing = dataclasses.replace(experiment.drawing, parts=parts)
    params, given = experiment.abstract_params(), drawing.of_samples(positions(0, 2))
    x = jnp.zeros((2, *experiment.shape))
    run = lambda params, x: drawing.prepared(experiment.score_system, params, given)[0](x, jnp.float32(0.4))
    assert jax.eval_shape(run, params, x).shape == x.shape


def tilt_of_digits(x0):
    """A log-density of pictures of digits."""
    return -jnp.sum((x0 - 0.5) ** 2, (1, 2, 3))
