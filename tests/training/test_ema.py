"""Averages of the parameters: their weights, against direct sums over the parameters, and several at once in a step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.config.averages import LARGEST_STD
from score_sde.data.stream import Batch
from score_sde.rng import positions
from score_sde.training.ema import Average, Constant, HalfLife, Power, Seen, WarmedUp, seen_after, update
from score_sde.training.optimizer import Optimizer
from score_sde.training.posthoc import std_to_gamma
from score_sde.training.step import TrainState, initial_state, make_train_step
from tests.golden_files import load

BATCH = 8.0


def seen(updates: int, dtype=jnp.float32, batch: float = BATCH) -> Seen:
    return Seen(jnp.int32(updates), jnp.asarray((updates + 1) * batch, dtype), batch)


def run(average: Average, params: np.ndarray, dtype=jnp.float64) -> np.ndarray:
    """The average after each of the updates to params[1], params[2], ...; it starts at params[0]."""
    trees, found = {"a": jnp.asarray(params[0], dtype)}, []
    for k, p in enumerate(params[1:]):
        trees = update({"a": average}, trees, jnp.asarray(p, dtype), seen(k, dtype))
        found.append(trees["a"])
    return np.array(found)


@pytest.fixture
def params():
    return np.random.default_rng(0).normal(size=60)


def test_constant_is_a_geometric_sum(float64, params):
    """e_n = d^n p_0 + (1 - d) sum_k d^(n - k) p_k; of constant parameters 1 begun at 0 it is 1 - d^n."""
    d, n = 0.9, len(params) - 1
    direct = d**n * params[0] + (1 - d) * sum(d ** (n - k) * params[k] for k in range(1, n + 1))
    np.testing.assert_allclose(run(Constant(d), params)[-1], direct, rtol=1e-12)
    step = np.concatenate([[0.0], np.ones(n)])
    np.testing.assert_allclose(run(Constant(d), step), 1 - d ** np.arange(1, n + 1), rtol=1e-12)


def test_warmed_up_average_follows_the_pytorch_codes_rule():
    """decay_k = min(decay, (1 + k) / (10 + k)) with k = 1 at the first update."""
    weights = [float(WarmedUp(0.9).weight(seen(k))) for k in range(200)]
    np.testing.assert_allclose(weights, [1 - min(0.9, (1 + k) / (10 + k)) for k in range(1, 201)], rtol=1e-6)


def test_half_of_an_average_is_older_than_its_half_life(float64):
    """r^n = 1/2 over the n updates of one half-life, whatever the batch size."""
    for batch in (8.0, 128.0):
        weight = HalfLife(4096, rampup=0).weight(seen(7, jnp.float64, batch))
        np.testing.assert_allclose((1 - weight) ** (4096 / batch), 0.5, rtol=1e-12)


def test_the_half_life_is_ramped_by_the_images_seen_before_the_update(float64, params):
    average = HalfLife(1000, rampup=0.05)
    weights = [float(average.weight(seen(k, jnp.float64))) for k in (0, 1, 100, 2499, 2500, 9999)]
    lives = [0.05 * 8 * k for k in (1, 100, 2499)] + [1000, 1000]
    np.testing.assert_allclose(weights, [1] + [1 - 0.5 ** (8 / life) for life in lives], rtol=1e-12)
    assert run(average, params)[0] == params[1]
    assert float(average.weight(seen(0))) == 1


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2])
def test_power_average_is_the_sum_with_the_profiles_weights(float64, params, std):
    """Update k of n has the profile's integral from k - 1 to k: (k/n)^(g + 1) - ((k - 1)/n)^(g + 1), g for gamma."""
    n = len(params) - 1
    edges = (np.arange(n + 1) / n) ** (std_to_gamma(std) + 1)
    np.testing.assert_allclose(run(Power(std), params)[-1], np.diff(edges) @ params[1:], rtol=1e-11)


KINDS = {
    "constant": Constant(0.9),
    "warmup": WarmedUp(0.9),
    "warmup, slow": WarmedUp(0.999),
    "warmup, decay below its ramp": WarmedUp(0.1),
    "half_life": HalfLife(100, 0.1),
    "half_life, no ramp": HalfLife(100, 0),
    "power": Power(0.1),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("first", [0, 7])
def test_what_is_kept_is_what_is_left_of_a_one_after_updates_to_zero(float64, name, first):
    """Of the value before `first` updates (an import's, where that is not 0), after each of 60."""
    trees, left = {"a": jnp.float64(1)}, [1.0]
    for k in range(first, 60):
        trees = update({"a": KINDS[name]}, trees, jnp.float64(0), seen(k, jnp.float64))
        left.append(float(trees["a"]))
    kept = [KINDS[name].kept(first, last, BATCH) for last in range(first, 61)]
    np.testing.assert_allclose(kept, left, rtol=1e-10, atol=1e-15)
    for last in (first, 30, 60):  # one of your own has but a weight
        np.testing.assert_allclose(
            Average.kept(KINDS[name], first, last, BATCH), left[last - first], rtol=1e-5, atol=1e-12
        )


def test_golden_weights_of_power_averages(float64):
    golden = load("edm2_ema_loss", "solvers")
    weights = [[Power(std).weight(Seen(jnp.int32(0), jnp.asarray(t), 1.0)) for t in golden["t_next"]]
               for std in golden["std"]]  # fmt: skip
    np.testing.assert_allclose(weights, 1 - golden["beta"], rtol=1e-12, atol=0)


def power_weight(std: float, batch: float, images: float) -> float:
    return -math.expm1((std_to_gamma(std) + 1) * math.log1p(-batch / images))


WEIGHTS = {  # of batch b at the k-th update with t images seen, in float64
    "constant": (Constant(0.99999), lambda b, k, t: 1 - 0.99999),
    "warmup": (WarmedUp(0.99999), lambda b, k, t: max(1 - 0.99999, 9 / (10 + k))),
    "half_life": (HalfLife(5e8, 0.05), lambda b, k, t: -math.expm1(-math.log(2) * b / min(5e8, 0.05 * (t - b)))),
    "power_0.050": (Power(0.05), lambda b, k, t: power_weight(0.05, b, t)),
    "power_0.289": (Power(LARGEST_STD), lambda b, k, t: power_weight(LARGEST_STD, b, t)),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("images", [2**10, 2**24, 2**32, 2**40])
def test_weights_in_float32_are_float64s_however_late(name, images):
    """To 1e-6 of themselves where float32 rates are 1; also as the compiled step computes them."""
    average, direct = WEIGHTS[name]
    now = Seen(jnp.int32(images // 16 - 1 if images < 2**35 else 2**31 - 2), jnp.float32(images), 16.0)
    expected = direct(16, int(now.updates) + 1, images)
    for weight in (average.weight, jax.jit(average.weight)):
        np.testing.assert_allclose(weight(now), expected, rtol=1e-6, atol=0)


def test_an_average_late_in_training_still_moves():
    """At 2^32 images of batches of 16 an average of width 0.1 takes 3e-8 of the new parameters, not nothing."""
    now = Seen(jnp.int32(2**28 - 1), jnp.float32(2**32), 16.0)
    trees = update({"a": Power(0.1)}, {"a": jnp.float32([0, 1])}, jnp.float32([1, 1]), now)
    np.testing.assert_allclose(trees["a"], [power_weight(0.1, 16, 2**32), 1], rtol=1e-6)


@pytest.mark.parametrize("average", [Constant(0.0), HalfLife(1000, 0.05), Power(0.1)])
def test_a_weight_of_one_gives_the_parameters_to_the_bit(average):
    """Whatever the average was: at the first update, and for a decay of 0 at every one."""
    params = np.random.default_rng(0).normal(size=100).astype(np.float32)
    trees = jax.jit(lambda e, p: update({"a": average}, {"a": e}, p, seen(0)))(1e6 * params[::-1], params)
    np.testing.assert_array_equal(trees["a"], params)


def test_trees_keep_float32_and_their_names(params):
    averages = {"z": Power(0.1), "a": Constant(0.5)}
    trees = {name: {"w": jnp.float32(1)} for name in averages}
    found = update(averages, trees, {"w": jnp.float32(3)}, seen(1))
    assert jax.tree.map(lambda x: x.dtype, found) == {name: {"w": jnp.float32} for name in averages}
    assert float(found["a"]["w"]) == 2


FIRSTS = [0, 1000, 2**32 - 16, 2**32 - 8, 3 * 2**32 + 5, 2**40]


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("devices", [1, 8])
def test_images_seen_are_counted_by_positions_of_any_size(first, devices):
    """16 examples; across the carry into the high word; on 8 devices the batch is theirs together."""
    position = jnp.asarray(positions(first, 16))
    if devices == 1:
        found = jax.jit(lambda p: seen_after(jnp.int32(3), p))(position)
    else:
        count = jax.pmap(lambda p: seen_after(jnp.int32(3), p, "i"), axis_name="i")
        found = jax.tree.map(lambda x: x[0], count(position.reshape(8, 2, 2)))
    assert (int(found.updates), float(found.batch)) == (3, 16)
    np.testing.assert_allclose(float(found.images), first + 16, rtol=2**-23)


def toy_batches(steps: int, first: int = 0) -> Batch:
    images = np.random.default_rng(0).integers(0, 256, (steps, 4, 1, 1, 1)).astype(np.uint8)
    return Batch(images, positions(first, 4 * steps).reshape(steps, 4, 2))


def toy_loss(params, view, batch) -> tuple[jax.Array, jax.Array, dict]:
    """Regression on the first pixel, at no time in particular."""
    x = batch.x[:, 0, 0, 0] / 255.0
    return (params["only"]["w"] - x) ** 2, x, {}


def toy_train(averages: dict[str, Average]) -> TrainState:
    """30 steps of regression on random targets."""
    optimizers = {"only": Optimizer(learning_rate=0.1, warmup=0)}
    step = jax.jit(make_train_step(toy_loss, optimizers, averages))
    return step(initial_state({"only": {"w": jnp.float32(2)}}, optimizers, averages), {}, toy_batches(30))[0]


AVERAGES = {"warmup": WarmedUp(0.9), "half_life": HalfLife(40, 0.1), "power_0.100": Power(0.1)}


def test_several_averages_at_once_are_each_alone():
    together = toy_train(AVERAGES)
    assert len({float(tree["only"]["w"]) for tree in together.averages.values()}) == 3
    for name, average in AVERAGES.items():
        alone = toy_train({name: average})
        np.testing.assert_allclose(alone.params["only"]["w"], together.params["only"]["w"], rtol=1e-6)
        own, other = (state.averages[name]["only"]["w"] for state in (alone, together))
        np.testing.assert_allclose(own, other, rtol=1e-6)


def test_the_steps_averages_are_direct_sums():
    """The parameters of every update, taken one at a time, weighted as each average says."""
    optimizers, batches = {"only": Optimizer(learning_rate=0.1, warmup=0)}, toy_batches(30)
    step = jax.jit(make_train_step(toy_loss, optimizers, {}))
    state, path = initial_state({"only": {"w": jnp.float32(2)}}, optimizers, {}), []
    for k in range(30):
        state, _ = step(state, {}, jax.tree.map(lambda x, k=k: x[k : k + 1], batches))
        path.append(float(state.params["only"]["w"]))
    edges = (np.arange(31) / 30) ** (std_to_gamma(0.1) + 1)
    ramped = 0.0
    for k, p in enumerate(path):
        r = 0.5 ** (4 / max(min(40, 0.1 * 4 * k), 1e-8))
        ramped = r * ramped + (1 - r) * p
    found = toy_train(AVERAGES).averages
    np.testing.assert_allclose(found["power_0.100"]["only"]["w"], np.diff(edges) @ path, rtol=1e-5)
    np.testing.assert_allclose(found["half_life"]["only"]["w"], ramped, rtol=1e-5)
