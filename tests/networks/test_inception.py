"""The FID Inception against torch-fidelity's network of seeded random weights."""

import functools

import jax
import numpy as np
import pytest

from score_sde.evaluation.preprocessing import tf1
from score_sde.networks.inception import CLASSES, FEATURES, Inception, Normalised, folded, layers
from tests.evaluation.goldens import GOLDEN


def random_layers(seed: int) -> tuple[dict[str, Normalised], tuple[np.ndarray, np.ndarray]]:
    """The golden's weights, batch normalisation that scales among them; the order of the draws is part of it."""
    normal, found = np.random.RandomState(seed).standard_normal, {}
    for name, shape in layers().items():
        weight = normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        gamma, beta, mean, variance = (normal(shape[0]) for _ in range(4))
        parts = weight, 1 + 0.1 * gamma, 0.1 * beta, 0.1 * mean, np.exp(0.2 * variance)
        found[name] = Normalised(*(np.float32(part) for part in parts))
    return found, (np.float32(0.05 * normal((CLASSES, 2048))), np.float32(0.5 * normal(CLASSES)))


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "random_net.npz") as stored:
        return dict(stored)


@functools.cache
def outputs() -> dict[str, np.ndarray]:
    published, head = random_layers(int(golden()["seed"]))
    sums = [layer.weight.sum(dtype=np.float64) for layer in published.values()] + [head[0].sum(dtype=np.float64)]
    np.testing.assert_allclose(sums, golden()["sums"], rtol=1e-9, atol=1e-9)
    with np.load(GOLDEN / "images.npz") as images:
        x = np.concatenate([tf1(images[name][None]) for name in golden()["names"]])
    network, parameters = Inception(head=True), folded(published, head)
    return jax.tree.map(np.asarray, jax.jit(lambda p, x: network.apply({"params": p}, x))(parameters, x))


def test_the_published_names_in_their_order():
    assert list(layers()) == list(golden()["layers"])
    count = sum(np.prod(shape) + 3 * shape[0] for shape in layers().values())
    assert (len(layers()), count) == (94, 21_802_784)


@pytest.mark.parametrize("name", [*FEATURES, "logits_unbiased", "logits"])
def test_features(name):
    expected = golden()[name]
    assert outputs()[name].shape == expected.shape
    assert np.abs(outputs()[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_parameters_have_the_published_names():
    """Of the module as of what is folded."""
    shapes = jax.eval_shape(Inception(head=True).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 299, 299, 3), float))
    published = {name: Normalised(np.zeros(s), *[np.ones(s[0])] * 4) for name, s in layers().items()}
    tree = folded(published, (np.zeros((CLASSES, 2048)), np.zeros(CLASSES)))
    assert jax.tree.map(lambda p: p.shape, shapes["params"]) == jax.tree.map(np.shape, tree)
