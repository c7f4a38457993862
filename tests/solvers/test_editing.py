"""SDEdit and purification: against the exact law on Gaussian data, and the recorded runs of SDEdit and DiffPure."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key
from score_sde.scores.posterior import Large, Small
from score_sde.sde import reverse, vp
from score_sde.sde.chain import vp_chain
from score_sde.sde.conditioning import edited
from score_sde.solvers import RK45, Ancestral, EulerMaruyama, grids
from score_sde.solvers.editing import Kept, edit, noised, purify
from tests.golden_files import load, relative_error
from tests.guidance.problems import law
from tests.oracles import CONTINUOUS, correlated

G = load("edit", "conditioning")


def keys(number: int, seed: int = 0):
    return example_keys(root_key(seed), positions(0, number))


def propagated(data, sde, x, times):
    """Mean and covariance of ancestral sampling from the level of times[0], exactly: every step is affine in (x, z)."""
    step = lambda x, z, t, s: Ancestral().update(sde, data.score(sde), x[None], t, s, z[None]).x[0]
    zero, size = jnp.zeros_like(x), x.size
    slope = lambda f: jax.jacfwd(f)(zero).reshape(size, size)
    alpha, sigma = sde.alpha(times[0]), sde.sigma(times[0])

    def body(carry, node):
        mean, covariance = carry
        M, N = slope(lambda x: step(x, zero, *node)), slope(lambda z: step(zero, z, *node))
        return (step(mean, zero, *node), M @ covariance @ M.T + N @ N.T), None

    start = alpha * x, sigma**2 * jnp.eye(size)
    (mean, covariance), _ = jax.lax.scan(body, start, (times[:-1], times[1:]))
    last = lambda x: data.denoiser(sde)(x[None], times[-1])[0]
    M = slope(last)
    return last(mean), M @ covariance @ M.T


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_law_is_the_exact_one_as_steps_grow_many(float64, name):
    """Of first order in the step: mean and covariance, without Monte Carlo error."""
    sde, data, x = CONTINUOUS[name], correlated(), jnp.array([1.0, -0.5, 2.0, 2.0]).reshape(2, 2, 1)
    level = sde.time(jnp.asarray(0.0))  # alpha = sigma
    mean, covariance = edited(data, sde, level, x).mixture().moments()
    errors = []
    for n in (100, 300):
        times = grids.below(grids.log_snr(sde, float(sde.time(jnp.asarray(9.0))), 4 * n), float(level))
        found = jax.jit(lambda times: propagated(data, sde, x, times))(times)
        errors.append([relative_error(*pair) for pair in zip(found, (mean, covariance), strict=True)])
    assert np.max(errors[1]) < 0.01, errors
    assert errors[1][1] < errors[0][1] / 2.5, errors


def test_samples_have_the_laws_moments():
    """Those that the steps of this grid have, known exactly."""
    sde, data, x = CONTINUOUS["edm"], correlated(), jnp.array([1.0, -0.5, 2.0, 2.0]).reshape(2, 2, 1)
    times = grids.below(grids.karras(sde, 0.05, 20), 0.7)
    mean, covariance = jax.jit(lambda: propagated(data, sde, x, times))()
    many = jnp.broadcast_to(x[None], (8192, 2, 2, 1))
    found = jax.jit(lambda: edit(keys(8192), data.score(sde), sde, many, solver=Ancestral(), times=times))()
    assert int(found.evaluations) == len(times)
    error = np.sqrt(np.diagonal(covariance) / 8192)
    np.testing.assert_array_less(np.abs(found.x.mean(0) - mean).ravel(), 4.5 * error)
    spread = np.sqrt(np.outer(np.diagonal(covariance), np.diagonal(covariance)) * 2 / 8192)
    np.testing.assert_array_less(np.abs(np.cov(found.x.reshape(8192, -1).T) - covariance), 4.5 * spread)


def test_a_high_level_forgets_and_a_low_one_keeps():
    sde, data = CONTINUOUS["vp"], correlated()
    x, score, grid = jnp.full((4, 2, 2, 1), 3.0), data.score(sde), grids.uniform(sde, 1e-3, 50)
    far, near = (
        edit(keys(4), score, sde, x, solver=Ancestral(), times=grids.below(grid, level)).x for level in (1.0, 0.01)
    )
    assert float(jnp.abs(near - x).max()) < 0.5
    assert float(jnp.abs(far - x).max()) > 2


@pytest.mark.parametrize("solver", [Ancestral(), RK45(1e-3, 1e-3)])
def test_a_sample_depends_on_its_key_and_example_alone(solver):
    sde, data = CONTINUOUS["vp"], law("mix")
    x, times = data.sample(keys(4, 7)), grids.below(grids.uniform(sde, 1e-3, 10), 0.35)
    keep = None if isinstance(solver, RK45) else jnp.array([1.0, 0] * 4)[None]
    options = {"solver": solver, "times": times, "keep": keep, "repeats": 2}
    draw = jax.jit(lambda k, x: edit(k, data.score(sde), sde, x, **options))
    whole = draw(keys(4), x)
    turned = draw(keys(4)[::-1], x[::-1])
    np.testing.assert_array_equal(turned.x[::-1], whole.x)
    if keep is not None:
        assert int(whole.evaluations) == 2 * len(times)
        np.testing.assert_array_equal(whole.x[:, ::2], x[:, ::2])
        assert float(jnp.abs(whole.x - x)[:, 1::2].min()) > 0


def test_it_is_differentiable_end_to_end():
    """The gradient of a sum is D's slopes along the way: of one step by hand."""
    sde, data = CONTINUOUS["vp"], law("gauss")
    x, times = data.sample(keys(2)), jnp.array([0.2, 0.1])
    options = {"solver": Ancestral(), "times": times, "denoise": False}
    slope = jax.grad(lambda x: edit(keys(2), data.score(sde), sde, x, **options).x.sum())(x)
    step = lambda x: Ancestral().update(sde, data.score(sde), x, times[0], times[1], jnp.zeros_like(x)).x.sum()
    np.testing.assert_allclose(slope, sde.alpha(0.2) * jax.grad(step)(jnp.zeros_like(x)), rtol=1e-4)


def test_masks_and_levels_that_do_not_fit():
    sde, data = CONTINUOUS["vp"], law("gauss")
    edits = lambda **more: edit(keys(2), data.score(sde), sde, jnp.zeros((2, 8)), times=jnp.array([0.2, 0.1]), **more)
    with pytest.raises(UsageError, match="keep has shape"):
        edits(solver=Ancestral(), keep=jnp.ones((1, 7)))
    with pytest.raises(UsageError, match="adaptive"):
        edits(solver=RK45(), keep=jnp.ones((1, 8)))
    for level in (1.5, 0.001):
        with pytest.raises(UsageError, match="level"):
            grids.below(grids.uniform(sde, 1e-3, 10), level)


def test_purified_examples_are_classified_again():
    """Two far components, and a step across the boundary between them that purification takes back in part."""
    sde, data = CONTINUOUS["vp"], law("mix")
    pair = data.part((0, 1))
    label = jnp.array([0] * 64 + [1] * 64)
    means = pair.means
    x = jnp.concatenate([data.part((k,)).sample(keys(64, k)) for k in (0, 1)])
    classify = lambda x: pair.log_responsibilities(sde)(x, jnp.float32(1e-3))
    times, score = jnp.linspace(0.1, 1e-3, 20), pair.score(sde)
    run = jax.jit(lambda x: purify(keys(128), score, sde, x, label, classify, solver=Ancestral(), times=times))
    clean = run(x)
    assert clean.x.shape == x.shape
    assert clean.correct_before.mean() > 0.95
    assert clean.correct.mean() > 0.9
    wrong = run(x + 1.01 * (means[1 - label] - means[label]))
    assert wrong.correct_before.mean() < 0.05
    half = run(x + 0.6 * (means[1 - label] - means[label]))
    assert half.correct.mean() > half.correct_before.mean()


RUNS = [key.removesuffix("/init_0") for key in G if key.endswith("/init_0")]


@pytest.mark.parametrize("run", RUNS)
def test_sdedits_masked_runs(float64, run):
    """Two rounds; there the kept pixels have the level that the others have left, and noise in what is saved.

    To 1e-6 of it, as its coefficients are float32.
    """
    _, name, variance, level = run.split("/")
    start, data, sde = int(level[1:]), law(name), vp_chain(G["sdedit/betas"])
    score, time = data.score(sde), lambda k: jnp.asarray(k / 20)
    noise = iter(jnp.asarray(G[f"sdedit/{level}/noise"]).reshape(-1, 2, 8))
    solver = Ancestral({"fixedsmall": Small(), "fixedlarge": Large()}[variance])
    update = jax.jit(lambda x, t, s, z: solver.update(sde, score, x, t, s, z).x)
    mask = jnp.asarray(G["sdedit/mask"]).reshape(1, -1)
    clean = jnp.broadcast_to(2 * jnp.asarray(G["sdedit/img01"]).reshape(1, -1) - 1, (2, 8))
    for i in range(2):
        z = next(noise)
        kept = Kept(sde, clean, mask, z)
        x = noised(sde, clean, time(start), z)
        if i == 1:
            assert relative_error(x / 2 + 0.5, G[f"{run}/init_0"].reshape(2, -1)) < 1e-6
        for k in range(start, 0, -1):
            drawn = next(noise)
            x = update(x, time(k), time(k - 1), drawn if k > 1 else jnp.zeros_like(x))
            x = kept(keys(2), x, time(k))
        assert relative_error(x / 2 + 0.5, G[f"{run}/samples_{i}"].reshape(2, -1)) < 1e-6
        clean = kept.put(x, clean)


@pytest.mark.parametrize("name", ["gauss", "mix"])
def test_diffpures_purification(float64, name):
    """Its reversed SDE, and Euler-Maruyama with the recorded increments from the chain's level to t = 1e-5."""
    sde, data = vp(), law(name)
    score = data.score(sde)
    at = lambda key: jnp.asarray(G[f"diffpure/{name}/{key}"])
    backward, x = reverse(sde, score), jnp.asarray(G["diffpure/x"])
    for t in ("0.1", "0.5", "0.9"):
        there = jnp.asarray(float(t))
        assert relative_error(-backward.drift(x, there), at(f"f_t{t}")) < 1e-9
        assert relative_error(jnp.broadcast_to(backward.diffusion(there), x.shape), at(f"g_t{t}")) < 1e-9
    bar = float(G["diffpure/abar_99"])
    chain = vp_chain(np.linspace(1e-4, 0.02, 1000))
    x = noised(chain, at("image"), jnp.asarray(0.1), at("e"))
    assert relative_error(chain.alpha(jnp.asarray(0.1)) ** 2, bar) < 1e-9
    assert relative_error(x, at("x_start")) < 1e-9
    assert relative_error(jnp.stack([sde.alpha(jnp.asarray(0.1)), sde.sigma(jnp.asarray(0.1))]),
                          G["diffpure/alpha_sigma_continuous_0.1"]) < 1e-9  # fmt: skip
    update = jax.jit(lambda x, t, s, z: EulerMaruyama().update(sde, score, x, t, s, z).x)
    for (t, s), z in zip(itertools.pairwise(1 - at("nodes")), at("brownian_z"), strict=True):
        x = update(x, t, s, z)
    assert relative_error(x, at("purified")) < 1e-9
