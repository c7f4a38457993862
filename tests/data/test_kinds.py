"""Kinds of data: there and back, standardised, in which units; what is found out of a set before it is trained on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data.kinds import Bytes, Real, Tokens
from score_sde.data.sources import Dataset
from score_sde.data.spec import Labels, Spec, kind_of, labels_of, statistics
from score_sde.errors import UsageError
from score_sde.rng import example_keys, positions, root_key

KEYS = example_keys(root_key(0), positions(0, 6))
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(5, 4, 3), (16, 16), (7,), (2, 3, 4, 2)])
def test_real_data_come_back_from_standard_units(shape):
    channels = shape[-1] if len(shape) >= 3 else 1
    kind = Real(flip=False, mean=tuple(np.arange(channels) - 1.0), std=tuple(np.arange(channels) + 0.5))
    x = RANDOM.normal(size=(6, *shape)).astype(np.float32)
    standard = kind.encode(KEYS, jnp.asarray(x))
    np.testing.assert_allclose(standard, (x - np.array(kind.mean, "f")) / np.array(kind.std, "f"), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(kind.decode(standard), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kind.comparable(x), standard, rtol=1e-6, atol=1e-6)


def test_flips_are_the_trainings_alone_and_the_keys_own():
    kind = Real(flip=True, mean=(0.0,), std=(1.0,))
    x = jnp.asarray(RANDOM.normal(size=(6, 4, 4, 1)), jnp.float32)
    np.testing.assert_array_equal(kind.encode(KEYS, x, training=False), x)
    flipped = np.asarray(kind.encode(KEYS, x))
    both = [np.array_equal(a, b) for a, b in zip(flipped, np.asarray(x)[:, :, ::-1])]
    assert 0 < sum(both) < 6 and all(f or np.array_equal(a, b) for f, a, b in zip(both, flipped, np.asarray(x)))


def test_nats_are_those_of_the_datas_own_units():
    """Of N(m, s^2) per channel: the density of standard units over the product of the standard deviations."""
    mean, std = (2.0, -1.0), (0.1, 7.0)
    kind, x = Real(False, mean, std), RANDOM.normal(size=(6, 3, 3, 2)) * std + mean
    standard = np.asarray(kind.continuous(KEYS, jnp.asarray(x, jnp.float32)), np.float64)
    nats = 0.5 * (math.log(2 * math.pi) + standard**2).sum((1, 2, 3))
    density = 0.5 * ((x - mean) / std) ** 2 + np.log(std) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(kind.per_dimension(nats, (3, 3, 2)), density.mean((1, 2, 3)), rtol=1e-5)


def test_bits_are_those_of_the_bytes():
    """Uniform bytes: 8 bits a dimension, whatever the range of the network."""
    for centered, nats in ((True, 12 * math.log(2)), (False, 0.0)):
        kind = Bytes(flip=False, dequantization=False, centered=centered)
        assert float(kind.per_dimension(jnp.float32(nats), (3, 2, 2))) == pytest.approx(8)
        x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
        np.testing.assert_array_equal(kind.decode(kind.encode(KEYS[:4], jnp.asarray(x))), x)


def test_tokens_have_no_density():
    np.testing.assert_array_equal(Tokens().decode(Tokens().encode(KEYS, jnp.arange(6))), np.arange(6))
    with pytest.raises(ValueError, match="tokens have no density"):
        Tokens().continuous(KEYS, jnp.arange(6))


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5), (2, 6, 5, 2)])
def test_statistics_are_numpys(shape, monkeypatch):
    """Per channel of three axes or more, else of all; far from zero, in chunks."""
    monkeypatch.setattr("score_sde.data.spec.CHUNK", 2000)
    x = (1e3 + RANDOM.normal(size=(50, *shape)) * np.linspace(0.1, 2, shape[-1])).astype(np.float32)
    rows = x.reshape(-1, shape[-1] if len(shape) >= 3 else 1).astype(np.float64)
    mean, std, _ = statistics(Dataset(x, x[:3]), (), ())
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, rows.std(0), rtol=1e-9)
    assert statistics(Dataset(x, x[:3]), (1.0,) * len(mean), ()) == ((1.0,) * len(mean), std, None)


def test_values_that_are_not_finite_are_counted_in_both_splits():
    x, held_out = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
    x[0, 1], held_out[1, 2], held_out[0, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(UsageError, match="3 of the data's 18 numbers are NaN or infinite: leave such examples out"):
        statistics(Dataset(x, held_out), (), ())


def test_a_dtype_stands_for_a_kind():
    assert [kind_of("auto", np.dtype(d)) for d in ("uint8", "float32", "int32")] == ["bytes", "real", "tokens"]
    assert kind_of("real", np.dtype("uint8")) == "real" and kind_of("tokens", np.dtype("uint8")) == "tokens"
    for asked, dtype in (("tokens", "float32"), ("bytes", "int32"), ("real", "uint16")):
        with pytest.raises(UsageError, match=rf"data\.kind='{asked}' does not go with data of dtype {dtype}"):
            kind_of(asked, np.dtype(dtype))
    with pytest.raises(UsageError, match="the data have the dtype float64: save bytes as uint8"):
        kind_of("auto", np.dtype("float64"))


def test_a_spec_goes_through_json():
    import json

    spec = Spec((4, 3, 2), "real", (0.1, 1 / 3), (2.0, 3.0), Labels((0.25, 0.75), ("cat", "dog")))
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert Spec.from_json(json.loads(json.dumps(Spec((8, 8, 1)).to_json()))) == Spec((8, 8, 1))


def test_classes_are_counted_with_the_held_out_ones():
    x = np.zeros((4, 2), np.float32)
    data = Dataset(x, x, {"label": np.array([0, 2, 2, 1])}, {"label": np.array([4, 0, 0, 0])})
    assert labels_of(data, 0) == Labels((0.25, 0.25, 0.5, 0.0, 0.0))
    assert labels_of(data, 6).count == 6
    assert labels_of(data._replace(classes=("a", "b", "c", "d", "e", "f", "g")), 0).count == 7
    with pytest.raises(
        UsageError,
        match=r"there is a label 4 and classes 0 to 2: give the data it began with",
    ):
        labels_of(data, 3)


def test_a_kind_compiles():
    kind = Real(True, (0.5,), (2.0,))
    assert jax.jit(kind.encode)(KEYS, jnp.zeros((6, 4, 4))).dtype == jnp.float32
