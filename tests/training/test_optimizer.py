"""Adam, warm-up, clipping, decay and EMA against the official code's recorded updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.training.ema import EMA
from score_sde.training.optimizer import Optimizer
from tests.golden_files import agree, load

TAGS = sorted({key.split("/")[0] for key in load("optim") if "hyper" in key})


@pytest.mark.parametrize("tag", TAGS)
def test_golden(tag):
    golden = load("optim")
    lr, warmup, clip, decay, ema_rate, start = (
        float(v) for v in golden[f"{tag}/hyper_lr_warmup_clip_wd_ema_startstep"]
    )
    optimizer = Optimizer(learning_rate=lr, warmup=int(warmup), grad_clip=clip, weight_decay=decay)
    average = EMA(decay=ema_rate)
    tree = lambda prefix: {"a": jnp.asarray(golden[f"{prefix}/a"]), "b": {"c": jnp.asarray(golden[f"{prefix}/b/c"])}}
    params = ema = tree("params0")
    state = optimizer.init(params)
    for i in range(5):
        step = jnp.int32(int(start) + i)
        params, state = optimizer.update(tree(f"grad/{i}"), state, params, step)
        ema = average.update(ema, params, step)
        agree(params["a"], "optim", f"{tag}/step{i}/a", "optimizer")
        agree(params["b"]["c"], "optim", f"{tag}/step{i}/b/c", "optimizer")
        agree(ema["a"], "optim", f"{tag}/step{i}/ema/a", "optimizer")


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


def test_warmed_up_average_follows_the_pytorch_codes_rule():
    """decay_k = min(decay, (1 + k) / (10 + k)) with k = 1 at the first update."""
    average = EMA(decay=0.9, warmup=True)
    rates = [float(average.rate(jnp.int32(s))) for s in range(200)]
    np.testing.assert_allclose(rates, [min(0.9, (1 + k) / (10 + k)) for k in range(1, 201)], rtol=1e-6)
