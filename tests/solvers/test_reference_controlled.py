"""The official controllable generation against the official code: every recorded run, and the classifier's slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.sde import VE, VP, SubVP
from score_sde.sde.analytic import Mixture, mixture
from score_sde.solvers import reference
from score_sde.solvers.reference_controlled import COLOURS, Grey, Masked, class_score, controlled
from tests.golden_files import load, relative_error

G = load("score_sde", "conditioning")
N, SNR = 12, 0.16
T_MIN = {"vp": 1e-3, "subvp": 1e-3, "ve": 1e-5}
"""Of the recorded runs; their functions' own default is 1e-5 for all."""
PREDICTORS = {
    "euler_maruyama": reference.EulerMaruyama(),
    "reverse_diffusion": reference.ReverseDiffusion(),
    "ancestral_sampling": reference.Ancestral(),
}
CORRECTORS = {"langevin": reference.Langevin(SNR), "ald": reference.AnnealedLangevin(SNR), "none": None}
RUNS = [key.removesuffix("/x") for key in G if key.startswith(("inpaint/", "colorize/")) and key.endswith("/x")]
CLASSES = [key.removesuffix("/x") for key in G if key.startswith("class/") and key.endswith("/x")]


def data() -> Mixture:
    mu = jnp.asarray(G["mix/mu"]).reshape(-1, 2, 2, 3)
    return mixture(jnp.asarray(G["mix/w"]), mu, covariances=jnp.asarray(G["mix/cov"]))


def pieces(name: str, way: str):
    """The chain, the predictor and the corrector of a run."""
    predictor, corrector = way.split("__")
    beta_max = 20.0 if predictor == "euler_maruyama" else 5.0
    chain = {
        "vp": reference.DiscreteVP(VP(0.1, beta_max), N),
        "subvp": reference.DiscreteSubVP(SubVP(), N),
        "ve": reference.DiscreteVE(VE(), N),
    }[name]
    return chain, PREDICTORS[predictor], CORRECTORS[corrector]


def classifier():
    """The exact one of VE: (x, sigma) -> log p(k | x)."""
    sde, of = VE(), data().log_responsibilities(VE())
    return lambda x, sigma: of(x, sde.time(-2 * jnp.log(sigma)))


def recorded(run: str, chain: reference.Discretization):
    """The prior's draw, and the draws of all nodes [N, draws, ...]."""
    noise = jnp.asarray(G[f"noise/{G[f'{run}/n_noise']}"])
    return noise[0] * chain.sde.prior_std, noise[1:].reshape(N, -1, *noise.shape[1:])


@pytest.mark.parametrize("run", RUNS)
def test_inpainting_and_colourisation(float64, run):
    kind, name, way, denoise = run.split("/")
    chain, predictor, corrector = pieces(name, way)
    prior, noise = recorded(run, chain)
    images, mask = (jnp.asarray(G[key]) for key in ("gray" if kind == "colorize" else "data", "mask"))
    known = Grey(images) if kind == "colorize" else Masked(images, mask)
    score = data().score(chain.sde)
    options = {"t_min": T_MIN[name], "denoise": denoise == "denoise1"}
    draw = lambda x: controlled(chain, score, x, known, predictor, corrector, lambda i, j: noise[i, j], **options)
    x, evaluations = jax.jit(draw)(prior)
    assert relative_error(x, G[f"{run}/x"]) < 1e-9
    assert evaluations == N * (1 + (corrector is not None))


@pytest.mark.parametrize("run", CLASSES)
def test_class_conditional(float64, run):
    _, name, way = run.split("/")
    chain, predictor, corrector = pieces(name, way)
    prior, noise = recorded(run, chain)
    score = class_score(chain, data().score(chain.sde), classifier(), jnp.asarray(G["class/labels"]))
    draw = lambda x: reference.predictor_corrector(
        chain, score, x, predictor, corrector, lambda i, j: noise[i, j], t_min=T_MIN[name]
    )[0]
    assert relative_error(jax.jit(draw)(prior), G[f"{run}/x"]) < 1e-9


def test_the_classifiers_slope(float64):
    """Under VE, with the exact classifier: the score and the slope, whose sum is the class's own score."""
    sde, x, labels = VE(), jnp.asarray(G["grad/x"]), jnp.asarray(G["grad/labels"])
    t = sde.time(-2 * jnp.log(jnp.asarray(G["grad/sigma"])))
    logits = classifier()
    score, zero = data().score(sde), lambda x, t: jnp.zeros_like(x)
    chain = reference.DiscreteVE(sde, N)
    probabilities = jax.nn.log_softmax(jnp.asarray(G["grad/logits"]))
    assert relative_error(logits(x, jnp.asarray(G["grad/sigma"])), probabilities) < 1e-9
    assert relative_error(score(x, t), G["grad/score"]) < 1e-9
    assert relative_error(class_score(chain, zero, logits, labels)(x, t), G["grad/classifier_grad"]) < 1e-9
    assert relative_error(class_score(chain, score, logits, labels)(x, t), G["grad/exact_class_score"]) < 1e-9


def test_their_mean_leaves_the_unknown_part_as_noisy_as_it_is():
    """With and without the final denoising what is unknown is the same; what is known has noise or has none."""
    turned = lambda x: np.asarray(x) @ COLOURS
    for way in ("ve/reverse_diffusion__langevin", "vp/ancestral_sampling__ald"):
        one, other = (G[f"inpaint/{way}/denoise{k}/x"] for k in (0, 1))
        np.testing.assert_allclose(one * (1 - G["mask"]), other * (1 - G["mask"]), rtol=1e-12)
        assert np.abs(one - other).max() > 1e-2
        one, other = (turned(G[f"colorize/{way}/denoise{k}/x"]) for k in (0, 1))
        np.testing.assert_allclose(one[..., 1:], other[..., 1:], atol=1e-12)
        assert np.abs(one - other)[..., 0].max() > 1e-2


def test_the_start_knows_without_noise(float64):
    """And of colours it masks the prior's red alone away, which is no channel of the rotation."""
    prior = jnp.asarray(G["noise/49"])[0]
    mask, images, gray = (jnp.asarray(G[key]) for key in ("mask", "data", "gray"))
    np.testing.assert_array_equal(Masked(images, mask).start(prior) * mask, images * mask)
    start, turned = Grey(gray).start(prior), lambda x: np.asarray(x) @ COLOURS
    unknown = start - gray
    np.testing.assert_allclose(unknown, np.asarray(prior).copy() * [0, 1, 1], atol=1e-6)
    assert np.abs(turned(unknown)[..., 0]).max() > 0.1


def test_the_known_part_is_a_level_behind(float64):
    """After a step down from t_i it has the noise of t_i still: at the last node sigma(t_min), not that of the end."""
    way = "inpaint/vp/reverse_diffusion__langevin"
    chain, *_ = pieces("vp", "reverse_diffusion__langevin")
    _, noise = recorded(f"{way}/denoise0", chain)
    mean, std = chain.sde.marginal(jnp.asarray(G["data"]), jnp.asarray(1e-3))
    known = (mean + std * noise[-1, -1]) * G["mask"]
    np.testing.assert_allclose(G[f"{way}/denoise0/x"] * G["mask"], known, atol=1e-12)
