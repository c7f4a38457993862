"""Masked diffusion with a Markov chain's exact conditionals: its bound is the entropy, its samples have its law."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.markov import TRANSITIONS, chains, entropy, nats, stationary, transition_error
from score_sde.errors import UsageError
from score_sde.objectives import masked
from score_sde.rng import example_keys, positions, root_key
from score_sde.training.step import View
from tests.systems.masking import PARAMS, V, exact

VIEW = View(jnp.int32(0), {}, {})
SCHEDULES = {"loglinear": masked.loglinear(), "cosine": masked.cosine(), "cosine_squared": masked.cosine_squared()}


def keys(count, seed=0, first=0):
    return example_keys(root_key(seed), positions(first, count))


@pytest.fixture(scope="module")
def everything():
    """All 81 examples of 4 tokens under all 16 masks: p(x0), how many are hidden, nats by the exact denoiser."""
    x0 = np.array(list(itertools.product(range(V), repeat=4)), np.int32)
    hidden = np.array(list(itertools.product([False, True], repeat=4)))
    x, h = np.repeat(x0, len(hidden), 0), np.tile(hidden, (len(x0), 1))
    found = jax.jit(exact(4).nats_at)(PARAMS, x, h, jnp.full(len(x), 0.5))
    return np.exp(-nats(x0)), hidden.sum(1), np.asarray(found, np.float64).reshape(len(x0), len(hidden))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_bound_of_exact_conditionals_is_the_entropy_under_every_schedule(name, everything):
    """By quadrature in t over all examples and masks: the chain rule in any order."""
    probability, count, found = everything
    mean = probability @ found  # of every mask
    nodes, weights = np.polynomial.legendre.leggauss(40)
    t = (nodes + 1) / 2
    m, w = (np.asarray(f(jnp.asarray(t)), np.float64)[:, None] for f in SCHEDULES[name])
    of_mask = m ** count[None] * (1 - m) ** (4 - count[None])
    assert 0.5 * weights @ (w * of_mask) @ mean == pytest.approx(entropy(4), abs=2e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_bound_of_steps_is_that_of_tokens_drawn_independently_within_each(steps, everything):
    """In one step all tokens are independent: the entropies of 4 stationary ones. More steps are nearer the entropy."""
    probability, count, found = everything
    t, w = (
        np.asarray(a, np.float64)
        for a in masked.times(masked.loglinear(), (jnp.arange(steps) + 0.5) / steps, 1e-5, steps)
    )
    m = t[:, None]
    bound = float(np.mean(w * ((m ** count[None] * (1 - m) ** (4 - count[None])) @ (probability @ found))))
    pi = stationary()
    independent = -4 * float((pi * np.log(pi)).sum())
    if steps == 1:
        assert bound == pytest.approx(independent, rel=1e-6)
    assert entropy(4) + 0.05 < bound < independent + 1e-5


def test_its_own_draws_of_times_and_masks_estimate_the_entropy():
    """Of 8 tokens, 20,000 examples, within 4 standard errors; per token in training, with stratified times."""
    system, x0 = exact(), chains(20_000, 3)
    found = np.asarray(jax.jit(system.bound)(PARAMS, keys(len(x0)), x0, {})[0], np.float64) - nats(x0)
    assert abs(found.mean()) < 4 * found.std() / len(x0) ** 0.5 and found.std() < 12
    u = (np.random.default_rng(0).permutation(len(x0)) + 0.5) / len(x0)
    of = jax.jit(lambda k, x, u: system.losses(PARAMS, VIEW, k, x, {}, u))
    loss, terms = of(keys(len(x0), 1), x0, jnp.asarray(u, jnp.float32))
    found = 8 * np.asarray(loss, np.float64) - nats(x0)
    assert abs(found.mean()) < 4 * found.std() / len(x0) ** 0.5 and terms == {}


def test_below_the_least_time_all_is_decoded_at_once():
    """It stays a bound with t_min far from 0, and is larger the larger that is."""
    u = (jnp.arange(20_000) + 0.5) / 20_000
    x0 = chains(20_000, 4)
    bounds = []
    for t_min in (0.5, 0.999):
        system = exact(t_min=t_min)
        bounds.append(float(jax.jit(system.nats)(PARAMS, keys(len(x0)), x0, u).mean()))
    pi = stationary()
    assert entropy() + 0.02 < bounds[0] < bounds[1] < -8 * float((pi * np.log(pi)).sum()) + 0.1


def test_one_token_at_a_time_has_the_exact_law():
    """In any order: every one of 81 sequences as often as the chain has it, by chi-square."""
    system, count = exact(4), 40_000
    order = np.random.default_rng(0).permuted(np.tile(np.arange(4), (count, 1)), axis=1)

    @jax.jit
    def step(k, x, place):
        log_p = system.denoised(PARAMS, x, jnp.full(len(x), 0.5))
        return jnp.where(jax.nn.one_hot(place, 4, dtype=bool), system.unmasked(k, x, log_p, jnp.ones(())), x)

    x = jnp.full((count, 4), V, jnp.int32)
    for i in range(4):
        x = step(keys(count, i), x, order[:, i])
    counts = np.bincount(np.asarray(x) @ 3 ** np.arange(4)[::-1], minlength=81)
    expected = count * np.exp(-nats(np.array(list(itertools.product(range(V), repeat=4)))))
    assert ((counts - expected) ** 2 / expected).sum() < 80 + 4 * 160**0.5


def test_samples_have_fewer_wrong_transitions_in_more_steps():
    """One step has independent tokens, an error of 0.39 of this chain; none has a mask left."""
    errors = []
    for steps in (1, 4, 40):
        system = exact(steps=lambda: steps)  # noqa: B023
        samples = jax.jit(lambda k: system.draw(PARAMS, k, {}))(keys(5_000))  # noqa: B023
        assert int(samples.evaluations) == steps and samples.x.shape == (5_000, 8)
        x = np.asarray(samples.x)
        assert x.min() >= 0 and x.max() < V
        errors.append(transition_error(x))
    pi = stationary()
    assert errors[0] == pytest.approx(np.abs(pi - TRANSITIONS).max(), abs=0.02)
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.04


def test_given_tokens_stay_and_the_others_follow_them():
    """Of a chain with its first and last token given, against the exact law of the middle."""
    system, count = exact(3, steps=lambda: 8), 20_000
    given = jnp.tile(jnp.array([[1, V, 2]], jnp.int32), (count, 1))
    x = np.asarray(jax.jit(lambda k: system.draw(PARAMS, k, {"given": given}))(keys(count)).x)
    assert (x[:, 0] == 1).all() and (x[:, 2] == 2).all()
    law = TRANSITIONS[1] * TRANSITIONS[:, 2]
    np.testing.assert_allclose(np.bincount(x[:, 1], minlength=V) / count, law / law.sum(), atol=0.015)


def test_an_example_does_not_depend_on_its_batch():
    system = exact(4, steps=lambda: 3)
    draw, bound = (
        jax.jit(lambda k: system.draw(PARAMS, k, {}).x),
        jax.jit(lambda k, x: system.bound(PARAMS, k, x, {})[0]),
    )
    np.testing.assert_array_equal(draw(keys(8))[2:5], draw(keys(3, first=2)))
    x0 = chains(8, 5, 4)
    np.testing.assert_allclose(bound(keys(8), x0)[2:5], bound(keys(3, first=2), x0[2:5]), rtol=1e-6)


def test_rare_tokens_are_drawn_by_gumbels_of_more_than_24_bits():
    """exp(-g) of float32's usual Gumbels g has steps of 2^-23 or so, so that no token below 1e-7 has its own share.

    The sampler's are drawn in jax's mode "high": their least exponentials lie between these steps.
    """
    logits = jnp.zeros((1, 2**20))
    of = lambda mode: jax.random.gumbel(root_key(0), logits.shape, jnp.float32, mode=mode)
    between = {}
    for mode in ("low", "high"):
        least = np.sort(np.exp(-np.asarray(of(mode), np.float64)).ravel())[:40]
        between[mode] = np.abs(least * 2**24 - np.round(least * 2**24)).max()
    assert between["low"] < 0.05 < 0.2 < between["high"]
    drawn = exact(1).unmasked(keys(1), jnp.full((1, 1), V), jnp.log(jnp.array([[[0.0, 1.0, 0.0]]])), jnp.ones(()))
    assert int(drawn[0, 0]) == 1


def test_it_has_no_score():
    for ask in (lambda: exact().sde(), lambda: exact().score({})):
        with pytest.raises(UsageError, match="tokens have no density"):
            ask()
