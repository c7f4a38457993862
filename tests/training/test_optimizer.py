"""Adam, warm-up, clipping, decay and EMA against the official code's recorded updates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.training.ema import Constant, Seen, update
from score_sde.training.optimizer import Optimizer, global_norm, joined_norm
from tests.golden_files import agree, load

TAGS = sorted({key.split("/")[0] for key in load("optim") if "hyper" in key})


@pytest.mark.parametrize("tag", TAGS)
def test_golden(tag):
    golden = load("optim")
    lr, warmup, clip, decay, ema_rate, start = (
        float(v) for v in golden[f"{tag}/hyper_lr_warmup_clip_wd_ema_startstep"]
    )
    optimizer = Optimizer(learning_rate=lr, warmup=int(warmup), grad_clip=clip, weight_decay=decay)
    averages = {"constant": Constant(ema_rate)}
    tree = lambda prefix: {"a": jnp.asarray(golden[f"{prefix}/a"]), "b": {"c": jnp.asarray(golden[f"{prefix}/b/c"])}}
    params, ema = tree("params0"), {"constant": tree("params0")}
    state = optimizer.init(params)
    for i in range(5):
        step = jnp.int32(int(start) + i)
        params, state = optimizer.update(tree(f"grad/{i}"), state, params, step)
        ema = update(averages, ema, params, Seen(step, jnp.float32(1), 1.0))
        agree(params["a"], "optim", f"{tag}/step{i}/a", "optimizer")
        agree(params["b"]["c"], "optim", f"{tag}/step{i}/b/c", "optimizer")
        agree(ema["constant"]["a"], "optim", f"{tag}/step{i}/ema/a", "optimizer")


def test_weight_decay_spares_the_fourier_frequencies():
    optimizer = Optimizer(learning_rate=1.0, warmup=0, weight_decay=0.1)
    params = {"GaussianFourierProjection_0": {"W": jnp.ones(3)}, "Conv_0": {"kernel": jnp.ones(3)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    updated, _ = optimizer.update(zero, optimizer.init(params), params, jnp.int32(0))
    np.testing.assert_array_equal(updated["GaussianFourierProjection_0"]["W"], 1)
    np.testing.assert_allclose(updated["Conv_0"]["kernel"], 0.9)


def test_warm_up_begins_at_zero_and_ends_at_the_rate():
    optimizer = Optimizer(learning_rate=2e-4, warmup=4)
    rates = [float(optimizer.rate(jnp.int32(s))) for s in (0, 1, 4, 100)]
    np.testing.assert_allclose(rates, [0, 5e-5, 2e-4, 2e-4], rtol=1e-6)
    np.testing.assert_allclose(Optimizer(learning_rate=2e-4, warmup=0).rate(jnp.int32(0)), 2e-4)


def test_one_that_starts_late_is_a_fresh_one_then():
    """Until then neither gradients, weight decay nor Adam's count move anything; warm-up counts from there."""
    options: dict[str, Any] = {"learning_rate": 0.1, "warmup": 2, "weight_decay": 0.1}
    late, fresh = Optimizer(**options, start=3), Optimizer(**options)
    params = first = {"a": jnp.ones(3), "b": jnp.arange(3.0)}
    state = late.init(params)
    jax.tree.map(np.testing.assert_array_equal, state, fresh.init(params))
    slope = lambda i: jax.tree.map(lambda p: jnp.cos(p + i), first)
    for i in range(3):
        params, state = late.update(slope(i), state, params, jnp.int32(i))
        jax.tree.map(np.testing.assert_array_equal, (params, state), (first, late.init(first)))
        assert late.rate(jnp.int32(i)) == 0
    other, own = first, fresh.init(first)
    for i in range(4):
        params, state = late.update(slope(i), state, params, jnp.int32(3 + i))
        other, own = fresh.update(slope(i), own, other, jnp.int32(i))
        jax.tree.map(np.testing.assert_array_equal, (params, state), (other, own))
    assert not np.array_equal(params["a"], first["a"])


def test_norms(float64):
    tree = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": {"c": jnp.ones(5), "d": jnp.float64(-3)}}
    expected = np.sqrt(np.sum(np.arange(24.0) ** 2) + 5 + 9)
    for norm in (global_norm, joined_norm):
        np.testing.assert_allclose(norm(tree), expected, rtol=1e-15)


def test_a_known_norm_clips_alike():
    optimizer, params, slope = Optimizer(grad_clip=0.5), {"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}
    state = optimizer.init(params)
    found = [optimizer.update(slope, state, params, jnp.int32(1), *norm) for norm in ((), (global_norm(slope),))]
    jax.tree.map(np.testing.assert_array_equal, *found)
