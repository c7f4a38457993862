"""The ODE's likelihood: closed forms, converged references, the official runs, honest errors."""

import contextlib
import functools
import io
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.augment import bits_offset
from score_sde.evaluation.estimates import interval, over_images, per_image
from score_sde.likelihood import LogLikelihood, log_likelihood, log_likelihood_given
from score_sde.likelihood.bound import sde_bound
from score_sde.objectives.variational import bits_per_dim
from score_sde.rng import Purpose, child, example_keys, positions, root_key
from score_sde.scores import divergence
from score_sde.sde import SDE, VP
from score_sde.sde.analytic import gaussian
from score_sde.solvers import RK45
from tests.golden_files import agree, load, relative_error
from tests.oracles import CONTINUOUS, FLOWING, SDES, bimodal, correlated, official_numerics, recorded_law
from tests.solvers.test_reference import exact_score

KEYS = example_keys(root_key(3), positions(0, 64))
T_MIN = {"vp": 1e-5, "subvp": 1e-5, "ve": 1e-5, "edm": 0.002, "straight": 1e-5, "cosine": 1e-5}


@pytest.mark.parametrize(
    ("data", "name"), [(correlated(), "vp"), *((bimodal(), name) for name in FLOWING)], ids=lambda v: str(v)[:8]
)
def test_every_image_is_within_a_thousandth_of_a_bit(name, data):
    """log p_e(x_0), but for the prior in the place of p_T: as the exact flow conserves probability."""
    sde, t_min = FLOWING[name], T_MIN[name]
    x0 = data.sample(KEYS)
    options = {"divergence": divergence.Exact(), "solver": RK45(1e-6, 1e-6), "t_min": t_min}
    found = jax.jit(lambda x0: log_likelihood(KEYS, data.score(sde), sde, x0, **options))(x0)
    log_prob = data.log_prob(sde)
    exact = log_prob(x0, t_min) - log_prob(found.z, sde.T) + sde.prior_log_prob(found.z)
    np.testing.assert_allclose(bits_per_dim(found.log_prob[:, 0], x0), bits_per_dim(exact, x0), atol=1e-3)
    if name in ("vp", "subvp"):  # where the prior is p_T but for its variance
        mean = bits_per_dim(found.log_prob[:, 0] - log_prob(x0, t_min), x0).mean()
        assert abs(float(mean)) < 1e-3
    assert found.log_prob.shape == (64, 1)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("law", ["gauss", "mix"])
def test_the_converged_reference(float64, name, law):
    """Latents, the divergence's integral and the likelihood of an independent solve to 1e-12, at both of its t_min."""
    golden, sde, data = load("pf_ode_reference", "solvers"), CONTINUOUS[name], recorded_law(law)
    x0 = jnp.asarray(load("closed_form", "solvers")[f"{law}__x0"])

    @jax.jit
    def solve(t_min) -> LogLikelihood:
        estimate = divergence.Exact().estimate(KEYS[: len(x0)], x0)
        return log_likelihood_given(estimate, data.score(sde), sde, x0, solver=RK45(1e-9, 1e-9), t_min=t_min)

    for prefix in [key.removesuffix("__z") for key in golden if key.startswith(f"{law}__{name}__") and "__z" in key]:
        found = solve(jnp.asarray(float(prefix.rpartition("eps")[2])))
        prior = sde.prior_log_prob(found.z)
        assert relative_error(found.z, golden[f"{prefix}__z"]) < 1e-7
        assert relative_error(prior, golden[f"{prefix}__logp_prior"]) < 1e-7
        assert relative_error(found.log_prob[:, 0] - prior, golden[f"{prefix}__delta_logp"]) < 1e-7
        assert relative_error(found.log_prob[:, 0], golden[f"{prefix}__logp_ode"]) < 1e-7


@pytest.mark.parametrize("law", ["gauss", "mix"])
def test_k_diffusions_likelihood(float64, law):
    """From sigma 0.002 to 80 with its recorded Rademacher probe."""
    golden, sde, data = load("kdiffusion", "solvers"), CONTINUOUS["edm"], recorded_law(law)
    estimate = functools.partial(divergence.along, jnp.asarray(golden[f"{law}__ll__v"])[None])
    options = {"solver": RK45(1e-10, 1e-10), "t_min": 0.002}
    solve = jax.jit(lambda x0: log_likelihood_given(estimate, data.score(sde), sde, x0, **options))
    assert (
        relative_error(solve(jnp.asarray(golden[f"{law}__ll__x"])).log_prob[:, 0], golden[f"{law}__ll__value"]) < 1e-6
    )


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", SDES)
def test_the_recorded_likelihoods(name):
    """Reference settings: one probe, one error norm for the batch, 1e-5, the official 1 - exp; evaluations too."""
    golden, sde = load("samplers"), official_numerics(name)
    score, x0 = exact_score(sde, (4, 4, 3)), jnp.asarray(golden["like/data"])

    @jax.jit
    def solve(probe) -> LogLikelihood:
        estimate = functools.partial(divergence.along, probe[None])
        return log_likelihood_given(estimate, score, sde, x0, solver=RK45(), t_min=1e-5)

    for probe in ("rademacher", "gaussian"):
        found = solve(jnp.asarray(golden[f"like/eps_{probe}"]))
        for centered in (False, True):
            run = f"like/{name}/{probe}_centered{int(centered)}"
            bits = bits_per_dim(-found.log_prob[:, 0], x0) + bits_offset(centered)
            agree(bits, "samplers", f"{run}/bpd", "likelihoods")
            assert found.evaluations == golden[f"{run}/nfe"]
        if probe == "rademacher":
            agree(found.z, "samplers", f"like/{name}/rademacher_centered1/latent", "likelihoods")


def test_the_recorded_closed_form():
    golden, sde = load("samplers"), SDES["vp"]
    x0 = jnp.asarray(golden["like/data"])
    law = gaussian(jnp.full((4, 4, 3), golden["m"]), jnp.eye(48) * golden["s"] ** 2)
    bits = bits_per_dim(-law.log_prob(sde)(x0, 0.0), x0) + bits_offset(True)
    agree(bits, "samplers", "like/analytic_bpd_centered1", "likelihoods")


def test_the_guides_block():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "likelihood.md").read_text()
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(text.split("```python\n")[1].split("```")[0], "likelihood.md", "exec"), names)
    truth = names["data"].log_prob(names["sde"])(names["x"], 1e-5)
    np.testing.assert_allclose(names["found"].log_prob.mean(1), truth, atol=0.5)
    assert relative_error(names["again"], names["x"]) < 1e-3
    assert names["between"].shape == (1, 2) and names["likely"].shape == (8, 2)


def quantised() -> tuple[jax.Array, jax.Array]:
    """A covariance of strong couplings and three images of 2x2x2 bytes."""
    places = jnp.arange(8.0)
    covariance = 0.2 * jnp.exp(-0.5 * jnp.abs(places[:, None] - places[None])) + 0.02 * jnp.eye(8)
    images = jnp.asarray([[100, 140, 90, 170, 128, 60, 200, 120], [128] * 8, [20, 30, 60, 60, 90, 130, 180, 250]])
    return covariance, images.reshape(3, 2, 2, 2)


def test_intervals_cover_the_truth():
    """200 repetitions over dequantisations and probes: the ODE's and the bound's, per image and for their mean.

    Of one dequantised image the truth is log p; over dequantisations its mean, in closed form, as log p is quadratic.
    """
    covariance, images = quantised()
    sde, data, side = SDES["vp"], gaussian(jnp.zeros((2, 2, 2)), covariance), 2 / 256
    repetitions, k, m, n = 200, 3, 4, 3
    keys = example_keys(root_key(0), positions(0, repetitions * k * n))
    noise = jax.vmap(lambda key: jax.random.uniform(key, (2, 2, 2)))(child(keys, Purpose.DEQUANTIZATION))
    x0 = side * (jnp.tile(images, (repetitions * k, 1, 1, 1)) + noise) - 1

    @jax.jit
    def run(x0):
        options = {"divergence": divergence.Rademacher(m), "solver": RK45(1e-4, 1e-4), "t_min": 1e-4}
        score = data.score(sde)
        return (
            log_likelihood(keys, score, sde, x0, **options).log_prob,
            -sde_bound(keys, score, sde, x0, samples=8, t_min=1e-4).total,
        )

    log_prob, bound = run(x0)
    fold = lambda a: np.swapaxes(np.asarray(a, np.float64).reshape(repetitions, k, n, -1), 1, 2)
    own = data.log_prob(sde)(x0, 1e-4).reshape(repetitions, k, n)
    expected = data.log_prob(sde)(side * (images + 0.5) - 1, 1e-4)
    expected -= 0.5 * side**2 / 12 * jnp.trace(jnp.linalg.inv(covariance))
    once = [per_image(values[:, :1]) for values in fold(log_prob)]
    intervals = [interval(mean[0], error[0], m - 1) for mean, error in once]
    assert 180 <= sum(low <= x <= high for (low, high), x in zip(intervals, own[:, 0, 0])) <= 198
    for values, degrees in ((fold(log_prob), k - 1), (fold(bound), k - 1)):
        found = [over_images(*per_image(repetition), degrees) for repetition in values]
        covered = sum(low <= expected.mean() <= high for _, _, (low, high), _, _ in found)
        assert 180 <= covered <= 198, covered


def test_one_solve_serves_all_probes_and_one_trace_all_numbers():
    """Probes change nothing but their own column; the mean of an image's is its own whatever the batch."""
    data, traces, x0 = correlated(), [], correlated().sample(KEYS[:4])

    @functools.partial(jax.jit, static_argnames="probes")
    def run(x0, sde: SDE, t_min, probes):
        traces.append(1)
        options = {"divergence": divergence.Rademacher(probes), "solver": RK45(), "t_min": t_min}
        return log_likelihood(KEYS[:4], data.score(sde), sde, x0, **options)

    three, one = run(x0, VP(), 1e-5, 3), run(x0, VP(), 1e-5, 1)
    np.testing.assert_allclose(three.log_prob[:, :1], one.log_prob, atol=1e-3)
    assert three.log_prob.shape == (4, 3) and np.ptp(three.log_prob, axis=1).min() > 0.01
    again = run(x0, VP(0.2, 10.0), 1e-4, 1)
    assert len(traces) == 2 and np.abs(again.log_prob - one.log_prob).max() > 1e-3


@pytest.mark.parametrize(("centered", "offset"), [(True, 7), (False, 8)])
def test_the_offset_is_that_of_the_scaling(centered, offset):
    """A density that is uniform over all cells gives every byte the probability 1 / 256."""
    assert bits_offset(centered) == offset
    width = 2.0 if centered else 1.0
    x = jnp.zeros((1, 5))
    assert bits_per_dim(jnp.asarray(5 * math.log(width)), x) + offset == pytest.approx(8)
